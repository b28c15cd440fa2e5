"""KTO as ``trl.KTOTrainer`` trains it, and objectives of other plugins by their own losses."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve, frozen
from stock_training import WORDS

from tutelage.context import Context
from tutelage.errors import InputError, PluginError, StageError
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.files.trl_format import message, supervised_row
from tutelage.hookspecs import hookimpl
from tutelage.objectives import AnswerBatch, ExampleKind, Lora, Objective, PairBatch
from tutelage.plugin_info import PluginInfo, RunNeeds
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import train_step
from tutelage.records import Model
from tutelage_transformers.checking import check_objective, check_run
from tutelage_transformers.devices import parallel
from tutelage_transformers.devices.parallel import share_of_objective
from tutelage_transformers.models.loading import read
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.arguments import objective_problems
from tutelage_transformers.training.fitting import divide_step, fastest_division
from tutelage_transformers.training.objectives import Kto
from tutelage_transformers.training.pair_losses import checked_loss
from tutelage_transformers.training.request import TrainingRequest, check_importable
from tutelage_transformers.training.step import build
from tutelage_transformers.training.unpaired import FixedOrder, mismatched_answers

KTO = Kto(epochs=2, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
SHARED = (
    "loss",
    "grad_norm",
    "kl",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "num_tokens",
    "learning_rate",
)


def write_labelled(file: Path, desirable: int = 4) -> Path:
    """Write 12 answers of very different lengths, some of them desirable."""
    draw = random.Random(0)
    rows = [
        {
            **supervised_row(" ".join(draw.choices(WORDS, k=draw.randint(1, 20))), " ".join(draw.choices(WORDS, k=k))),
            "label": number % 12 < desirable,
            "prompt_id": f"p{number}",
        }
        for number, k in enumerate([1, 25, 3, 12, 7, 30, 2, 9, 18, 5, 22, 11])
    ]
    write_rows(file, rows)
    return file


def trainer_of(start: Path, objective: Objective, file: Path, reference: Path | None = None) -> Any:
    import torch

    settings = TransformersSettings(device="cpu")
    model, folder = Model("transformers", str(start)), file.parent
    request = TrainingRequest(model, None, objective, file, folder / "trained", folder / "scratch", settings)
    found = [read(Model("transformers", str(one or start)), settings, torch.float32) for one in (start, reference)]
    with quiet():
        return build(request, found[0], found[1] if reference else None, folder / "state", Context())


def stock_trainer(ours: Any, start: Path, reference: Path | None, file: Path) -> Any:
    """``trl.KTOTrainer``, unchanged, which tokenises the texts of the file itself, in the order of our trainer."""
    import torch
    from datasets import Dataset
    from trl import KTOTrainer

    settings = TransformersSettings(device="cpu")
    policy, other = (
        read(Model("transformers", str(one)), settings, torch.float32) for one in (start, reference or start)
    )
    arguments = copy.copy(ours.args)
    arguments.precompute_ref_log_probs, arguments.disable_dropout = False, True
    rows = [row for _, row in read_rows(file)]
    order = list(ours._get_train_sampler())
    columns = ("prompt", "completion", "label")
    data = Dataset.from_list([{key: rows[index][key] for key in columns} for index in order])
    adapter = getattr(ours.model, "peft_config", None)
    with quiet():
        return KTOTrainer(
            policy.model,
            None if adapter and reference is None else other.model,
            arguments,
            train_dataset=data,
            processing_class=policy.tokenizer,
            peft_config=copy.deepcopy(adapter["default"]) if adapter else None,
        )


def metrics(trainer: Any) -> list[dict[str, float]]:
    with quiet():
        trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [{key: value for key, value in row.items() if key in SHARED} for row in rows]


@pytest.mark.parametrize(
    ("changes", "has_reference", "desirable"),
    [
        pytest.param({}, False, 9, id="balanced"),
        pytest.param(
            {"micro_batch_size": 2, "desirable_weight": 1.5, "lora": Lora(4, 8, 0.0)},
            False,
            9,
            id="lora",
            marks=pytest.mark.slow,
        ),
        pytest.param({"loss_type": "apo_zero_unpaired"}, True, 9, id="apo", marks=pytest.mark.slow),
        pytest.param({"undesirable_weight": 0.5}, True, 6, id="reference", marks=pytest.mark.slow),
    ],
)
def test_kto_has_the_losses_metrics_and_weights_of_plain_trl(
    base: Path, other_base: Path, tmp_path: Path, changes: dict[str, Any], has_reference: bool, desirable: int
) -> None:
    import torch

    file, objective = write_labelled(tmp_path / "labelled.jsonl", desirable), evolve(KTO, **changes)
    reference = other_base if has_reference else None
    ours = trainer_of(base, objective, file, reference)
    stock = stock_trainer(ours, base, reference, file)
    if objective.lora is not None:
        stock.model.load_state_dict(ours.model.state_dict())
    expected, found = metrics(stock), metrics(ours)
    assert len(found) == len(expected) == 6
    assert any(row["kl"] > 0 for row in found) == (objective.loss_type == "kto")
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    with torch.no_grad():
        for (name, mine), theirs in zip(ours.model.named_parameters(), stock.model.parameters(), strict=True):
            if not name.endswith("k_proj.bias"):  # its gradient is 0: softmax does not depend on it
                assert torch.allclose(mine, theirs, atol=1e-5), name


@pytest.mark.parametrize(
    ("given", "labels", "expected"),
    [
        ((None, None), (3, 9), (3.0, 1.0)),
        ((None, None), (8, 4), (1.0, 2.0)),
        ((None, None), (5, 0), (1.0, 1.0)),
        ((1.2, None), (3, 9), (1.2, 1.0)),
        ((None, 0.5), (3, 9), (1.0, 0.5)),
    ],
)
def test_the_weights_that_are_left_out_balance_the_labels(given: Any, labels: Any, expected: Any) -> None:
    assert Kto(desirable_weight=given[0], undesirable_weight=given[1]).weights(*labels) == pytest.approx(expected)


def test_each_answer_is_compared_with_the_one_before_it_in_its_batch() -> None:
    assert mismatched_answers("abcde", [4, 0, 2, 1, 3], 2) == ["e", "c", "b", "d", "a"]
    assert mismatched_answers("abcde", [4, 0, 2, 1, 3], 3) == ["e", "d", "a", "b", "c"]


def test_the_order_of_the_answers_depends_on_the_seed_and_not_on_the_epoch() -> None:
    order = FixedOrder(50, seed=1)
    first = list(order)
    order.set_epoch(3)
    assert list(order) == first == list(FixedOrder(50, seed=1)) != list(FixedOrder(50, seed=2))
    assert sorted(first) == list(range(50)) != first


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        (Kto(beta=0.0), "beta: 0.0; it must be a number above 0"),
        (Kto(desirable_weight=-1.0), "desirable_weight: -1.0; it must be a number above 0"),
        (Kto(batch_size=4, micro_batch_size=1), "micro_batch_size: 1; the KL term is estimated from the other answers"),
        (Kto(batch_size=1), "batch_size: 1; the KL term"),
        (Kto(batch_size=1, loss_type="apo_zero_unpaired"), None),
        (Kto(), None),
    ],
)
def test_settings_that_kto_cannot_train_with_are_problems(objective: Kto, problem: str | None) -> None:
    found = [*objective.problems(), *objective_problems(objective)]
    assert [line[: len(problem)] for line in found] == [problem] if problem else not found


def test_an_older_trl_is_named_with_the_version_that_has_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage_transformers.training.objectives.version", lambda _: "1.9.2")
    assert list(Kto().problems()) == ["loss_type: trl 1.9.2 is installed, and KTO needs trl 1.16; update it"]


def test_a_device_that_would_compute_one_answer_of_a_step_is_refused(base: Path) -> None:
    settings = TransformersSettings(processes=2, device="cpu")
    model = read(Model("transformers", str(base)), settings).model
    for size, rows in ((8, 4), (4, 2)):
        share = share_of_objective(evolve(KTO, batch_size=size), settings)
        assert divide_step(share, model, [10] * 8, False, settings).rows == rows
    share = share_of_objective(evolve(KTO, batch_size=2), settings)
    with pytest.raises(InputError, match="batch_size: a device computes 1 of a step, and KTO needs at least 2 at once"):
        divide_step(share, model, [10] * 8, False, settings)


def test_answers_are_not_divided_into_single_ones_however_small_the_device() -> None:
    def needed(tokens: int, checkpointing: bool) -> int:
        return tokens

    assert fastest_division(KTO, None, [10] * 8, 25, needed, busy_tokens=1).rows == 2
    assert fastest_division(evolve(KTO, loss_type="apo_zero_unpaired"), None, [10] * 8, 15, needed).rows == 1
    with pytest.raises(InputError, match=r"too small for this training: it takes about 0\.0 GiB with 2 at once"):
        fastest_division(KTO, None, [10] * 8, 15, needed)


def test_a_loss_that_is_not_finite_names_the_answers_and_the_section_to_change(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    file = write_labelled(tmp_path / "labelled.jsonl")
    with pytest.raises(StageError) as error:
        trained(registry, base, evolve(KTO, learning_rate=1e30, epochs=6.0), file)
    assert "labelled.jsonl, lines " in str(error.value) and "(p" in str(error.value)
    assert "lower objectives.transformers/kto.learning_rate (now 1e+30)" in str(error.value)


def test_one_answer_alone_has_no_kl_term_and_is_refused(base: Path, tmp_path: Path) -> None:
    file = write_labelled(tmp_path / "labelled.jsonl")
    write_rows(file, [next(row for _, row in read_rows(file))])
    with pytest.raises(InputError, match=r"labelled\.jsonl: 1 answer; the KL term of KTO is estimated from at least 2"):
        trainer_of(base, KTO, file)
    assert len(trainer_of(base, evolve(KTO, loss_type="apo_zero_unpaired"), file).train_dataset) == 1


def test_pairs_in_place_of_labelled_answers_are_refused_with_what_kto_needs(base: Path, tmp_path: Path) -> None:
    sides = {"chosen": message("assistant", "apple"), "rejected": message("assistant", "dog"), "label": True}
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": message("user", "cat"), **sides}])
    with pytest.raises(InputError, match=r"line 1: no 'completion'; .*, KTO prompt, completion and label$"):
        trainer_of(base, KTO, tmp_path / "pairs.jsonl")


def test_a_row_without_a_label_is_named_with_its_line(base: Path, tmp_path: Path) -> None:
    file = write_labelled(tmp_path / "labelled.jsonl")
    rows = [row for _, row in read_rows(file)]
    write_rows(file, [rows[0], {**rows[1], "label": "good"}])
    with pytest.raises(InputError, match=r"labelled\.jsonl, line 2: 'label' is 'good'; a labelled answer needs true"):
        trainer_of(base, KTO, file)


@frozen
class LengthNormalised(Objective):
    """Pairs: the mean log-probability per token of the chosen answer above that of the rejected one."""

    examples: ClassVar[ExampleKind] = "preferences"

    gamma: float = 0.5
    """Target margin."""

    def problems(self) -> Iterator[str]:
        if self.gamma < 0:
            yield f"gamma: {self.gamma}; it must be at least 0"

    def loss(self, batch: PairBatch) -> Any:
        from torch.nn.functional import logsigmoid

        margins = batch.chosen / batch.chosen_tokens - batch.rejected / batch.rejected_tokens
        return -logsigmoid(margins - self.gamma)


@frozen
class Unlikely(Objective):
    """Labelled answers: likelihood of the desirable ones, unlikelihood of the others, compared with the reference."""

    examples: ClassVar[ExampleKind] = "labelled"
    has_reference: ClassVar[bool] = True

    def loss(self, batch: AnswerBatch) -> Any:
        change = batch.log_probability - batch.reference
        return (1 - 2 * batch.desirable.float()) * change


@frozen
class Focal(Objective):
    """Examples: cross entropy that weights tokens by their improbability, mean over the tokens of each example."""

    examples: ClassVar[ExampleKind] = "examples"

    def loss(self, batch: AnswerBatch) -> Any:
        logps = batch.token_log_probability
        weighted = (1 - logps.detach().exp()) ** 2 * logps * batch.token_mask
        return -weighted.sum(dim=1) / batch.token_mask.sum(dim=1)


@frozen
class Seven(Unlikely):
    """Returns no tensor."""

    def loss(self, batch: AnswerBatch) -> Any:
        return 7


class Offering:
    """A third party's plugin with objectives."""

    @hookimpl
    def describe(self) -> PluginInfo:
        objectives: dict[str, type[Objective]] = {
            "normalised": LengthNormalised,
            "unlikely": Unlikely,
            "focal": Focal,
            "seven": Seven,
        }
        return PluginInfo("Offers objectives.", objectives=objectives)


@pytest.fixture
def registry() -> Registry:
    registry = Registry.discover()
    registry.register(Offering(), "mine")
    return registry


def trained(registry: Registry, start: Path, objective: Objective, file: Path) -> list[dict[str, Any]]:
    rows: list[Any] = []
    model = Model("transformers", str(start), {"device": "cpu"})
    reference = model if objective.has_reference else None
    context = Context(log=rows.append, scratch=file.parent / "scratch")
    train_step(registry, model, reference, objective, file, file.parent / "out", context)
    return rows


def test_a_plugins_objective_trains_on_labelled_answers(registry: Registry, base: Path, tmp_path: Path) -> None:
    file = write_labelled(tmp_path / "labelled.jsonl")
    rows = trained(registry, base, Unlikely(epochs=6.0, learning_rate=1e-2, batch_size=12), file)
    assert rows[0]["loss"] == pytest.approx(0, abs=1e-4)  # nothing has changed yet
    assert rows[-1]["loss"] < -1
    assert rows[-1]["rewards/chosen"] > rows[-1]["rewards/rejected"] + 1


def test_a_plugins_objective_trains_on_instruction_examples_without_a_reference(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    file = write_labelled(tmp_path / "examples.jsonl")
    write_rows(file, [{key: row[key] for key in ("prompt", "completion")} for _, row in read_rows(file)])
    rows = trained(registry, base, Focal(epochs=6.0, learning_rate=1e-2, batch_size=12), file)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert not any(name.startswith("rewards/") for name in rows[0])


def test_a_plugins_objective_trains_on_pairs_without_a_reference(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    sides = {"chosen": message("assistant", "apple cat"), "rejected": message("assistant", "dog dog dog")}
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": message("user", word), **sides} for word in WORDS[:4]])
    objective = LengthNormalised(epochs=4.0, learning_rate=1e-2, batch_size=4)
    rows = trained(registry, base, objective, tmp_path / "pairs.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1
    assert not any(name.startswith("rewards/") for name in rows[0])


def test_pairs_with_soft_labels_are_refused_by_an_objective_that_does_not_read_them(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    sides = {"chosen": message("assistant", "apple"), "rejected": message("assistant", "dog"), "probability": 0.8}
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": message("user", "cat"), **sides}])
    with pytest.raises(InputError, match="the objective LengthNormalised does not read soft labels; train with dpo"):
        trained(registry, base, LengthNormalised(), tmp_path / "pairs.jsonl")


def test_a_loss_that_is_no_tensor_is_an_error_of_its_plugin(registry: Registry, base: Path, tmp_path: Path) -> None:
    file = write_labelled(tmp_path / "labelled.jsonl")
    with pytest.raises(PluginError, match=r"the loss of Seven returned 7; it must return the loss of each answer"):
        trained(registry, base, Seven(batch_size=12), file)


@frozen
class Infinite(Unlikely):
    """Has a loss that is not finite."""

    def loss(self, batch: AnswerBatch) -> Any:
        return batch.log_probability * float("nan")


def test_a_loss_of_a_plugin_that_is_not_finite_is_named_in_what_to_check(base: Path, tmp_path: Path) -> None:
    registry = Registry.discover()
    file = write_labelled(tmp_path / "labelled.jsonl")
    with pytest.raises(
        StageError, match=r"the loss is nan.*check that the loss of Infinite is finite for these examples"
    ):
        trained(registry, base, Infinite(batch_size=12), file)
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("detached", "returned a tensor without a gradient; compute it from the log-probabilities of the policy"),
        ("whole", r"returned a tensor of the shape \(3,\) and the type int64; it must return the loss of each answer"),
        ("mean", r"returned a tensor of the shape \(\); it must return the loss of each answer, a tensor of floating"),
    ],
)
def test_a_loss_of_the_wrong_kind_is_an_error_of_its_plugin(kind: str, problem: str) -> None:
    import torch

    logps = torch.zeros(3, requires_grad=True)
    found = {"detached": logps.detach(), "whole": logps.long(), "mean": logps.mean()}[kind]
    with pytest.raises(PluginError, match=f"the loss of Mine {problem}"):
        checked_loss("loss of Mine", found, logps, "answer")


def test_a_loss_without_a_gradient_is_right_if_the_policy_has_none() -> None:
    import torch

    assert checked_loss("loss of Mine", torch.ones(3), torch.zeros(3), "answer").sum() == 3


def test_the_problems_of_the_objective_are_found_before_the_training(
    registry: Registry, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"gamma: -1\.0; it must be at least 0"):
        trained(registry, base, LengthNormalised(gamma=-1.0), tmp_path / "no-such-file.jsonl")


def test_an_objective_is_refused_before_a_run_whose_processes_cannot_import_it() -> None:
    made: type[Any] = type("FromNotebook", (Unlikely,), {"__module__": "__main__"})
    of_file: type[Any] = type("FromFile", (Unlikely,), {"__module__": "tutelage_plugin_file_mine"})
    for settings in (
        TransformersSettings(processes=2),
        TransformersSettings(processes=1, accelerate_config="fsdp.yaml"),
    ):
        with pytest.raises(InputError, match=r"__main__:FromNotebook cannot be imported .* set settings"):
            list(check_objective(settings, made()))
        assert list(check_objective(settings, KTO)) == list(check_objective(settings, of_file())) == []
    assert list(check_objective(TransformersSettings(processes=1), made())) == []
    with pytest.raises(InputError, match="it is neither in an installed package nor in a plugin file"):
        check_importable(_local_objective())


def test_an_objective_of_a_notebook_is_refused_before_a_run_that_all_visible_gpus_train(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``processes``, each GPU is one process, and only a machine with several GPUs refuses the objective."""
    made: type[Any] = type("FromNotebook", (Unlikely,), {"__module__": "__main__"})

    def found(gpus: int, *trainings: Objective) -> list[str]:
        monkeypatch.setattr(parallel, "device_names", lambda _: [f"cuda:{number}" for number in range(gpus)])
        needs = RunNeeds(hooks=frozenset({"train_step"}), trainings=trainings, download=False)
        return [finding.detail for finding in check_run(None, str(base), needs)]

    assert found(1, made()) == found(2, KTO) == []
    [problem] = found(2, KTO, made(batch_size=16))
    assert "__main__:FromNotebook cannot be imported" in problem


def _local_objective() -> Objective:
    @frozen
    class Local(Unlikely):
        """Is made by a function."""

    return Local()


def test_processes_of_a_training_get_the_objective_of_a_plugin(tmp_path: Path) -> None:
    model = Model("transformers", "start")
    for objective in (KTO, evolve(KTO, lora=Lora(target_modules=("fc1",)))):
        request = TrainingRequest(model, None, objective, tmp_path, tmp_path, tmp_path, TransformersSettings())
        request.write(tmp_path)
        assert TrainingRequest.read(tmp_path).objective == objective
    text = (tmp_path / "request.json").read_text()
    (tmp_path / "request.json").write_text(text.replace("tutelage_transformers.training.objectives", "no_such_module"))
    with pytest.raises(
        InputError, match=r"no_such_module:Kto cannot be imported .*the objectives of installed plugins"
    ):
        TrainingRequest.read(tmp_path)
