"""What core and the plugins offer by name: models, data, rubrics, objectives, measures, pipelines and others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, overload

from tutelage.errors import InputError, nearest
from tutelage.examples import Example, Preference, RatedExample
from tutelage.measure import Measure
from tutelage.objectives import Objective, PairLoss
from tutelage.pipeline import Pipeline
from tutelage.plugin_info import NamedModel, NamedSet, PluginInfo
from tutelage.plugins import built_in
from tutelage.preferences.pairing import PairRule
from tutelage.records import Prompt, Rubric

Offered = Literal[
    "models",
    "prompt_sets",
    "example_sets",
    "rated_sets",
    "preference_sets",
    "rubrics",
    "pair_rules",
    "pair_losses",
    "objectives",
    "measures",
    "pipelines",
    "controls",
]


class Offers(ABC):
    """The part of the registry that finds what plugins offer, from their descriptions."""

    @abstractmethod
    def info(self, name: str) -> PluginInfo:
        """Return a plugin's description. Raises ``PluginError`` if the plugin cannot be used."""

    @abstractmethod
    def label(self, name: str) -> str:
        """Return a plugin's name and origin for messages. Raises ``PluginError`` if the plugin cannot be used."""

    @abstractmethod
    def _plugins(self) -> Iterable[str]:
        """Return the names of the plugins that can be used, core's own included."""

    @abstractmethod
    def _knows(self, name: str) -> bool:
        """Return whether there is a plugin of this name or alias, even if it cannot be used."""

    @overload
    def find(self, kind: Literal["models"], name: str) -> NamedModel | None: ...
    @overload
    def find(self, kind: Literal["prompt_sets"], name: str) -> NamedSet[str | Prompt] | None: ...
    @overload
    def find(self, kind: Literal["example_sets"], name: str) -> NamedSet[Example] | None: ...
    @overload
    def find(self, kind: Literal["rated_sets"], name: str) -> NamedSet[RatedExample] | None: ...
    @overload
    def find(self, kind: Literal["preference_sets"], name: str) -> NamedSet[Preference] | None: ...
    @overload
    def find(self, kind: Literal["rubrics"], name: str) -> Rubric | None: ...
    @overload
    def find(self, kind: Literal["pair_rules"], name: str) -> PairRule | None: ...
    @overload
    def find(self, kind: Literal["pair_losses"], name: str) -> PairLoss | None: ...
    @overload
    def find(self, kind: Literal["objectives"], name: str) -> type[Objective] | None: ...
    @overload
    def find(self, kind: Literal["measures"], name: str) -> Measure | None: ...
    @overload
    def find(self, kind: Literal["pipelines", "controls"], name: str) -> Pipeline | None: ...

    def find(self, kind: Offered, name: str) -> Any:
        """Return the object that a plugin offers as ``PLUGIN/NAME``, or core as ``NAME``.

        Returns None for any other text, such as a hub name or a path. Raises ``InputError`` if the plugin offers
        objects of this kind but none with this name, and ``PluginError`` if the plugin cannot be used.
        """
        plugin, slash, offer = name.partition("/")
        if not slash:
            return getattr(self.info(built_in.NAME), kind).get(name)
        if not self._knows(plugin):
            return None
        offered = getattr(self.info(plugin), kind)
        if not offered:
            return None  # for example the hub name openai/gpt-oss-20b: its owner has the name of a plugin
        if offer not in offered:
            known = (f"{plugin}/{other}" for other in offered)
            raise InputError(f"{self.label(plugin)} has no {_kind_words(kind)} {name!r}{nearest(name, known)}")
        return offered[offer]

    @overload
    def get(self, kind: Literal["models"], name: str) -> NamedModel: ...
    @overload
    def get(self, kind: Literal["prompt_sets"], name: str) -> NamedSet[str | Prompt]: ...
    @overload
    def get(self, kind: Literal["example_sets"], name: str) -> NamedSet[Example]: ...
    @overload
    def get(self, kind: Literal["rated_sets"], name: str) -> NamedSet[RatedExample]: ...
    @overload
    def get(self, kind: Literal["preference_sets"], name: str) -> NamedSet[Preference]: ...
    @overload
    def get(self, kind: Literal["rubrics"], name: str) -> Rubric: ...
    @overload
    def get(self, kind: Literal["pair_rules"], name: str) -> PairRule: ...
    @overload
    def get(self, kind: Literal["pair_losses"], name: str) -> PairLoss: ...
    @overload
    def get(self, kind: Literal["objectives"], name: str) -> type[Objective]: ...
    @overload
    def get(self, kind: Literal["measures"], name: str) -> Measure: ...
    @overload
    def get(self, kind: Literal["pipelines", "controls"], name: str) -> Pipeline: ...

    def get(self, kind: Offered, name: str) -> Any:
        """Return what ``find`` returns. Raises ``InputError`` with the reason, or the nearest name, if that is None."""
        found: Any = self.find(kind, name)
        if found is None:
            plugin, slash, _ = name.partition("/")
            if slash and not self._knows(plugin):
                known = (other for other in self._plugins() if other != built_in.NAME)
                reason = f": no plugin {plugin!r} is installed{nearest(plugin, known)}"
            else:
                reason = nearest(name, self.offered(kind))
            raise InputError(f"no {_kind_words(kind)} {name!r}{reason}")
        return found

    def offered(self, kind: Offered) -> dict[str, Any]:
        """Return all objects of one kind that core and the plugins offer, by the name that ``find`` takes."""
        return {
            name if plugin == built_in.NAME else f"{plugin}/{name}": value
            for plugin in self._plugins()
            for name, value in getattr(self.info(plugin), kind).items()
        }

    def name_of_objective(self, objective: Objective) -> str:
        """Return the name of an objective: ``sft``, ``PLUGIN/NAME``; that of its class if nothing offers the class."""
        offered = self.offered("objectives").items()
        return next((name for name, cls in offered if cls is type(objective)), type(objective).__name__)


def _kind_words(kind: Offered) -> str:
    """Return the singular of a kind for messages: ``pair rule`` for ``pair_rules``."""
    return "pair loss" if kind == "pair_losses" else kind.removesuffix("s").replace("_", " ")
