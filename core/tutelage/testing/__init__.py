"""Test tools for plugin authors: ``check_plugin`` checks the contract of every hook that a plugin implements.

::

    # test_my_plugin.py
    from tutelage.testing import check_plugin

    def test_my_plugin_fulfils_the_contract():
        check_plugin("my-plugin").raise_for_problems()

``pytest_plugins = ["tutelage.testing.fixtures"]`` in a ``conftest.py`` makes the fixtures available to other tests.
"""

from tutelage.files.field_help import show_field_help
from tutelage.testing.kit import check_plugin
from tutelage.testing.report import Check, Report
from tutelage.testing.subject import PROMPTS, Subject

__all__ = ["PROMPTS", "Check", "Report", "Subject", "check_plugin"]

for _class in (Check, Report, Subject):
    show_field_help(_class)
