"""The plugin ``loops``: published loops of self-improvement, each a pipeline in a module of its own."""

from __future__ import annotations

from tutelage import PluginInfo, hookimpl
from tutelage_loops import cream, critique, iterative_rpo, meta_rewarding, spin, sppo, west_of_n


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: its pipelines, and the rubric and the pair rule that they need."""
    return PluginInfo(
        help="Published loops as pipelines: SPIN, Iterative RPO, Meta-Rewarding, West-of-N, CREAM, SPPO, and critique.",
        pipelines={
            "spin": spin.SPIN,
            "spin-on-preferences": spin.SPIN_ON_PREFERENCES,
            "critique-and-revise": critique.CRITIQUE_AND_REVISE,
            "iterative-rpo": iterative_rpo.ITERATIVE_RPO,
            "meta-rewarding": meta_rewarding.META_REWARDING,
            "meta-rewarding-tiny": meta_rewarding.META_REWARDING_TINY,
            "west-of-n": west_of_n.WEST_OF_N,
            "cream": cream.CREAM,
            "cream-filter": cream.CREAM_FILTER,
            "sppo": sppo.SPPO,
        },
        pair_rules={"winners-losers": iterative_rpo.winners_losers},
        rubrics={"meta": meta_rewarding.META_RUBRIC},
    )
