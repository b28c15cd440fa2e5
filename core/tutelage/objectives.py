"""The objectives of a training, with their hyperparameters: sections of a recipe, which a student gets as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

from attrs import frozen

from tutelage.records import added_key

ExampleKind = Literal["examples", "preferences", "labelled"]
"""What an objective trains on: instruction examples (``Example``), preference pairs (``Preference``), or unpaired
answers with a label (``LabelledAnswer``)."""


@frozen
class Lora:
    """A low-rank adapter, trained instead of the full weights (Hu et al., 2021, section 4.1)."""

    r: int = 16
    """LoRA rank."""
    alpha: int = 32
    """LoRA scaling numerator: the adapter's output is multiplied by alpha / r."""
    dropout: float = 0.05
    """Dropout probability on the adapter's input."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = added_key("all-linear")
    """Layers with an adapter: `all-linear` is every linear layer except the head; or a list of names of linear layers,
    for example [q_proj, v_proj]. A name selects every layer whose path ends with it."""


SCHEDULERS = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]
"""The schedules of transformers that need no further arguments."""
DIVERGENCES = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]
"""The divergences of f-DPO that TRL's trainer knows."""


@frozen
class Objective:
    """The base of all objectives: the settings that every training has.

    A plugin offers a subclass in ``PluginInfo.objectives``: an attrs class whose fields are the keys of its section in
    a recipe, each with a default. Its docstring begins with one line for ``tutelage plugins show``. A student trains
    with it in one of two ways: it names the objective in ``PluginInfo.trains``, or it trains with the ``loss`` of any
    objective (``PluginInfo.trains_losses``).
    """

    examples: ClassVar[ExampleKind]
    """What it trains on."""
    has_reference: ClassVar[bool] = False
    """Whether it reads the log-probabilities of the reference policy."""
    soft_labels: ClassVar[bool] = False
    """For pairs: whether ``loss`` reads ``PairBatch.probability``. If false, pairs with soft labels are refused."""

    epochs: float = 3.0
    """Number of passes over the examples."""
    learning_rate: float = 2e-4
    """Peak learning rate, reached at the end of the warm-up."""
    batch_size: int = 16
    """Number of examples per optimizer step, over all devices and micro-batches."""
    micro_batch_size: int | None = None
    """Number of examples that a device computes at once (gradient accumulation); must divide `batch_size`. If left out,
    the plugin chooses it: on a GPU as many as fit, otherwise the whole batch."""
    warmup_ratio: float = 0.1
    """Fraction of the optimizer steps in which the learning rate rises to its peak; at least 0 and below 1."""
    max_length: int = 1024
    """Maximum number of tokens of an example (prompt and completion). A longer example is an error; nothing is
    truncated."""
    lora: Lora | None = None
    """LoRA adapter to train; full fine-tuning if left out."""
    seed: int = 0
    """Random seed of the training. In a run it is replaced by the current one of `seeds`."""
    lr_scheduler_type: SCHEDULERS = added_key("linear")
    """Learning rate after the warm-up, one of transformers' schedules: `linear`, `cosine` and `polynomial` fall to 0
    (or nearly 0), `inverse_sqrt` falls more slowly, `constant_with_warmup` stays at the peak, and `constant` is always
    at the peak, without a warm-up."""
    weight_decay: float = added_key(0.0)
    """Weight decay of AdamW (Loshchilov and Hutter, 2019), of all weights except biases and norms."""
    max_grad_norm: float = added_key(1.0)
    """Maximum norm of the gradient of a step; a larger gradient is scaled down to it. 0 turns clipping off."""

    def problems(self) -> Iterable[str]:
        """Return each problem of the settings as ``KEY: problem and remedy``. Called before the first step of a run."""
        return ()

    def loss(self, batch: Any) -> Any:
        """Return the loss of each pair or answer: a tensor of the shape (pairs,) or (answers,). It may import torch.

        ``batch`` is a ``PairBatch`` if the objective trains on preferences, otherwise an ``AnswerBatch``. Called in
        each step by a student with ``PluginInfo.trains_losses``. An objective without this method is trained only by
        students that name it.
        """
        raise NotImplementedError

    @property
    def has_loss(self) -> bool:
        """Whether the objective has a loss of its own."""
        return type(self).loss is not Objective.loss

    @property
    def reward_factor(self) -> float | None:
        """Factor of the change of log-probability in the logged rewards: ``beta``, if there is a positive one, or 1.

        None for an objective without a reference, which logs no rewards.
        """
        beta = getattr(self, "beta", 1.0)
        is_factor = isinstance(beta, int | float) and beta > 0
        return (float(beta) if is_factor else 1.0) if self.has_reference else None

    @property
    def label(self) -> str:
        """Name of the method for a card: SFT, DPO, KTO."""
        name = type(self).__name__
        return name.upper() if len(name) <= 4 else name


@frozen
class Sft(Objective):
    """Supervised fine-tuning. The loss is computed on the completion tokens only; the prompt is masked."""

    examples: ClassVar[ExampleKind] = "examples"


@frozen
class Dpo(Objective):
    """Direct preference optimisation (Rafailov et al., 2023)."""

    examples: ClassVar[ExampleKind] = "preferences"
    has_reference: ClassVar[bool] = True

    epochs: float = 1.0
    """Number of passes over the preference pairs."""
    learning_rate: float = 5e-5
    """Peak learning rate, reached at the end of the warm-up."""
    batch_size: int = 16
    """Number of preference pairs per optimizer step, over all devices and micro-batches."""
    micro_batch_size: int | None = None
    """Number of pairs that a device computes at once (gradient accumulation); must divide `batch_size`. If left out,
    the plugin chooses it: on a GPU as many as fit, otherwise the whole batch."""
    warmup_ratio: float = 0.1
    """Fraction of the optimizer steps in which the learning rate rises to its peak; at least 0 and below 1."""
    max_length: int = 1024
    """Maximum number of tokens of prompt and answer together, for either answer. A longer pair is an error; nothing is
    truncated."""
    beta: float = 0.1
    """Weight of the KL constraint towards the reference policy: larger values keep the policy closer to the reference
    (Rafailov et al., 2023, eq. 7)."""
    loss_type: str | Mapping[str, float] = "sigmoid"
    """A loss of TRL's DPO trainer (sigmoid, ipo, hinge, robust, ...), a loss of a plugin (PLUGIN/NAME), or a weighted
    sum of several losses, for example {sigmoid: 1, sft: 0.2}."""
    lora: Lora | None = None
    """LoRA adapter to train; full fine-tuning if left out."""
    seed: int = 0
    """Random seed of the training. In a run it is replaced by the current one of `seeds`."""
    lr_scheduler_type: SCHEDULERS = added_key("linear")
    """Learning rate after the warm-up, one of transformers' schedules: `linear`, `cosine` and `polynomial` fall to 0
    (or nearly 0), `inverse_sqrt` falls more slowly, `constant_with_warmup` stays at the peak, and `constant` is always
    at the peak, without a warm-up."""
    weight_decay: float = added_key(0.0)
    """Weight decay of AdamW (Loshchilov and Hutter, 2019), of all weights except biases and norms."""
    max_grad_norm: float = added_key(1.0)
    """Maximum norm of the gradient of a step; a larger gradient is scaled down to it. 0 turns clipping off."""
    label_smoothing: float = added_key(0.0)
    """Assumed share of pairs whose preference is wrong, for the losses `robust` (Chowdhury et al., 2024), `exo_pair`
    (Ji et al., 2024), `aot` and `aot_unpaired`; at least 0 and below 0.5. `robust` and `exo_pair` need it: their papers
    use 0.1 and 0.001."""
    f_divergence_type: DIVERGENCES = added_key("reverse_kl")
    """Divergence that keeps the policy close to the reference (Wang et al., 2024, f-DPO). Losses that are not functions
    of the difference of the two rewards, such as `apo_zero`, know `reverse_kl` only."""
    f_alpha_divergence_coef: float = added_key(0.5)
    """Coefficient of `f_divergence_type: alpha_divergence`, from 0 (`forward_kl`) to 1 (`reverse_kl`)."""
    discopop_tau: float = added_key(0.05)
    """Temperature of the loss `discopop` (Lu et al., 2024, eq. 5)."""
    ld_alpha: float | None = added_key(None)
    """Weight of the tokens of the longer answer beyond the length of the shorter one (Liu et al., 2024, LD-DPO), from 0
    to 1. If left out, all tokens count alike, as with 1."""
    use_weighting: bool = added_key(False)
    """Whether each pair is weighted by the policy's own probability of its answers (Zhou et al., 2024, WPO, eq. 2)."""
    loss_settings: Mapping[str, Any] | None = added_key(None)
    """Settings of the loss of a plugin that `loss_type` names, for example {gamma: 1.0} of `transformers/simpo`."""

    @property
    def losses(self) -> Mapping[str, float]:
        """The losses that are summed, each with its weight."""
        return {self.loss_type: 1.0} if isinstance(self.loss_type, str) else dict(self.loss_type)

    @property
    def plugin_losses(self) -> tuple[str, ...]:
        """The names of the losses of plugins among them: ``PLUGIN/NAME``."""
        return tuple(name for name in self.losses if "/" in name)


OBJECTIVES: Mapping[str, type[Objective]] = {"sft": Sft, "dpo": Dpo}
"""The objectives of core, by the names of their sections in a recipe. Plugins offer more."""


@frozen
class PairBatch:
    """A batch of preference pairs, as a ``PairLoss`` gets it. All tensors have the shape (pairs,)."""

    chosen: Any
    """Tensor: log-probability of the chosen answer under the policy, summed over its tokens and its end token."""
    rejected: Any
    """Tensor: the same of the rejected answer."""
    reference_chosen: Any
    """Tensor: log-probability of the chosen answer under the reference policy."""
    reference_rejected: Any
    """Tensor: the same of the rejected answer."""
    chosen_tokens: Any
    """Tensor: number of tokens of the chosen answer, with its end token."""
    rejected_tokens: Any
    """Tensor: the same of the rejected answer."""
    probability: Any
    """Tensor: probability that the chosen answer is the better one, see ``Preference.probability``."""
    beta: float
    """``dpo.beta``."""


@frozen
class AnswerBatch:
    """A batch of answers, as the ``loss`` of an objective on examples or labelled answers gets it."""

    log_probability: Any
    """Tensor (answers,): log-probability of the answer under the policy, summed over its tokens and its end token."""
    reference: Any
    """Tensor (answers,): the same under the reference policy; zeros unless the objective has a reference."""
    token_log_probability: Any
    """Tensor (answers, width): log-probability of each token of the answer under the policy; 0 outside the answer."""
    token_mask: Any
    """Tensor (answers, width): 1 for the tokens of the answer, otherwise 0."""
    desirable: Any
    """Boolean tensor (answers,): label of the answer; true for instruction examples."""


@frozen
class PairLoss:
    """A loss of preference pairs that a plugin offers in ``PluginInfo.pair_losses``; ``dpo.loss_type`` names it."""

    function: Callable[..., Any]
    """Called with (``PairBatch``, settings or None) in each step; returns the loss of each pair: a tensor of the shape
    (pairs,). It may import torch."""
    help: str
    """What it is, in one line."""
    settings: type | None = None
    """attrs class of the settings, which ``dpo.loss_settings`` sets. All of them need a default."""
    soft_labels: bool = False
    """Whether the loss reads ``PairBatch.probability``. If false, pairs with soft labels are refused."""
    check: Callable[[Dpo, Any], Iterable[str]] | None = None
    """Called before a run with (objective, settings or None); returns each problem as ``KEY: problem and remedy``,
    where KEY is a key of ``dpo`` (``beta``, ``loss_settings.gamma``)."""
