"""The plugin of core itself: rubrics, pair rules, objectives, pipelines and controls, offered as those of any plugin.

Their names need no prefix in a recipe: ``additive`` is ``tutelage/additive``.
"""

from __future__ import annotations

from tutelage.hookspecs import hookimpl
from tutelage.objectives import OBJECTIVES
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.preferences.judging import (
    ADDITIVE_REASON_FIRST_RUBRIC,
    ADDITIVE_RUBRIC,
    CHECKLIST_RUBRIC,
    PAIRWISE_RUBRIC,
    REWARD_RUBRIC,
)
from tutelage.preferences.pairing import RULES

NAME = "tutelage"


@hookimpl
def describe() -> PluginInfo:
    """Describe what is built in."""
    rubrics = (ADDITIVE_RUBRIC, ADDITIVE_REASON_FIRST_RUBRIC, PAIRWISE_RUBRIC, CHECKLIST_RUBRIC, REWARD_RUBRIC)
    return PluginInfo(
        help="The rubrics, pair rules, objectives, pipelines and controls that are built in.",
        rubrics={rubric.name: rubric for rubric in rubrics},
        pair_rules=RULES,
        objectives=OBJECTIVES,
        pipelines=PIPELINES,
        controls=CONTROLS,
    )
