"""The texts and the picture that the pages quote, made of the figures in ``docs/proof.json``: one function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quoted_gpu import GPU_BLOCKS

from tutelage.evaluation.intervals import Metric
from tutelage.report.plots import forest

_SIDES = ("before", "after")


def picture(proof: dict[str, Any]) -> str:
    """Return the plot of the gains over M1 that the demo's report shows, on white so that dark pages show its text."""
    gains = {model: Metric(**metric) for model, metric in proof["embedded"]["gains_over_m1"].items()}
    svg = forest(gains, "difference of gold scores to M1 (0 to 5), with 95% intervals", zero=True)
    return svg.replace(">", '><rect width="100%" height="100%" fill="#fff"/>', 1) + "\n"


def demo(proof: dict[str, Any]) -> str:
    """Return the output of the demo, and the time and memory that the demo took."""
    shown = proof["embedded"]
    took = f"`tutelage run` took {shown['wall_seconds']:.0f} seconds on {shown['machine']}."
    return f"```text\n{shown['output'].strip()}\n```\n\n{took} Its peak memory was {shown['peak_mib']:,} MiB.\n"


def demo_end(proof: dict[str, Any]) -> str:
    """Return the last lines of the demo's output, and the time and memory that the demo took."""
    shown = proof["embedded"]
    end = shown["output"].strip().rpartition("\n\n")[2]
    return (
        f"```text\n...\n{end}\n```\n\nIt took {shown['wall_seconds']:.0f} seconds and {shown['peak_mib']:,} MiB of "
        f"memory on {shown['machine']}.\n"
    )


def result(proof: dict[str, Any]) -> str:
    """Return the result of the demo in one sentence, with its controls."""
    shown = proof["embedded"]
    scores, gains = shown["models"], shown["gains_over_m1"]

    def gain(model: str) -> str:
        return _interval(gains[model])

    pipelines = ", ".join(f"`{name.partition('/')[2]}` by {gain(name)}" for name in gains if name.startswith("M3/"))
    highest = max(scores, key=lambda name: scores[name])
    repeated = proof["embedded-seeds"]
    pair = {"left": "M3/teacher-demonstration", "right": "M2/sft-on-chosen"}
    [metric] = [row["gold_score"] for row in repeated["differences"] if pair.items() <= row.items()]
    above = f"{-metric['value']:.2f} [{-metric['high']:.2f}, {-metric['low']:.2f}]"
    return (
        f"From a gold score of {scores['M1']:.2f} out of 5 (M1), two rounds gain {pipelines}; the control "
        f"`random-pairs` changes it by {gain('M2/random-pairs')}, and the highest score is that of `{highest}`, with "
        f"{gain(highest)}. On {len(repeated['seeds'])} other seeds, the control `sft-on-chosen` is above "
        f"`{pair['left']}` by {above}.\n"
    )


def example(proof: dict[str, Any]) -> str:
    """Return the answers of three models to one held-out prompt, and how the prompt was chosen."""
    found = proof["embedded"]["example"]
    rows = ["| model | answer | gold score |", "|---|---|---|"]
    for row in found["answers"]:
        answer = " ⏎ ".join(f"`{line}`" for line in row["text"].splitlines())
        rows.append(f"| {row['model']} | {answer} | {row['score']:g} |")
    first, second, last = (row["model"] for row in found["answers"])
    rising, falling = found["prompts_that_rise"], found["prompts_that_fall_at_last"]
    chosen = (
        f"This is the first of the {rising} of {found['prompts']} held-out prompts whose score rises from {first} to "
        f"{second} to {last}. On {falling} prompts {last} scores lower than {second}."
    )
    return "\n".join([f"> {found['prompt']}\n", *rows, "", chosen]) + "\n"


def seeds(proof: dict[str, Any]) -> str:
    """Return the results of each pipeline on the seeds that were not used for tuning."""
    shown = proof["embedded-seeds"]
    lines = ["| difference in gold score | value | 95% interval |", "|---|---|---|"]
    for row in shown["differences"]:
        metric = row["gold_score"]
        interval = f"{metric['low']:+.2f} to {metric['high']:+.2f}"
        lines.append(f"| {row['left']} - {row['right']} | {metric['value']:+.2f} | {interval} |")
    models = ["| model | gold score | exact |", "|---|---|---|"]
    for name, metrics in shown["models"].items():
        models.append(f"| {name} | {metrics['gold_score']['value']:.2f} | {metrics['gold_exact']['value']:.0%} |")
    return "\n".join([*models, "", *lines]) + "\n"


def study(proof: dict[str, Any]) -> str:
    """Return the gain of each variant of the study, and how its judge and its pairs were."""
    shown = proof["study"]
    everything, readable = shown["all"], shown["readable"]
    lines = [
        "| variant | M1 | M2 over M1 | over random pairs | over the base | p (adjusted) | judge: parsed | pairwise "
        "| Spearman | pairs | right | equal |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(shown["variants"], key=lambda row: -float(row["gain"]["value"])):
        above, p, judge = row["over_base"], row["p_adjusted"], row["judge"]
        of_pairs = judge["pairwise_accuracy"]
        pairwise = f"{of_pairs['value']:.0%}" if of_pairs["n"] >= 10 else ""
        lines.append(
            f"| {row['variant']} | {row['m1']['value']:.2f} | {_interval(row['gain'])} "
            f"| {_interval(row['over_random'])} "
            f"| {'' if above is None else _interval(above)} | {'' if p is None else f'{p:.2g}'} "
            f"| {judge['parsed']['value']:.0%} | {pairwise} "
            f"| {judge['spearman']['value']:.2f} | {row['pairs']:,} | {row['right']:.0%} | {row['equal']:.0%} |"
        )
    return "\n".join(lines) + (
        f"\n\nOver all {everything['trainings']} trainings, the share of right pairs and the gain over M1 have a "
        f"correlation of {everything['right_and_gain']:.2f},\nand of {readable['right_and_gain']:.2f} over the "
        f"{readable['trainings']} of the variants with at least half of the judgements parsed.\n"
    )


def _interval(metric: dict[str, Any]) -> str:
    return f"{metric['value']:+.2f} [{metric['low']:+.2f}, {metric['high']:+.2f}]"


def robustness(proof: dict[str, Any]) -> str:
    """Return the results on kills and start-up time. A measurement that is missing from ``proof`` is left out."""
    lines = []
    if kills := proof.get("kills"):
        lines.append(
            f"- {kills['kills']} runs were killed with `kill -9` at random moments and continued. "
            f"{kills['same_summary']} of them wrote the same `summary.json`, byte for byte, as a run without a kill."
        )
    if stops := proof.get("stops"):
        each, same = stops["stops_by_each"], [stops[name]["same_artifacts"] for name in ("sigterm", "sighup")]
        lines.append(
            f"- {each} runs were stopped by SIGTERM and {each} by SIGHUP at random moments and continued. {same[0]} "
            f"and {same[1]} of them ended with the same artifacts, byte for byte, as a run that was not stopped."
        )
    if disk := proof.get("full-disk"):
        lines.append(
            f"- The disk became full at {disk['failed_writes']} random writes of a run. "
            f"{disk['same_artifacts']} of the continued runs ended with the same artifacts."
        )
    if startup := proof.get("startup"):
        help_ = startup["help_cpu_seconds"]
        lines.append(f"- `tutelage --help` takes {help_['median']} s of processor time (median of {help_['runs']}).")
    return "\n".join(lines) + "\n"


def write_a_plugin(proof: dict[str, Any]) -> str:
    """Return the time that the page "Write a plugin" took, and what its teacher gains."""
    shown = proof["write-a-plugin"]
    gain = shown["gain"]
    return (
        f"The commands of this page took {shown['seconds_of_commands']:.0f} seconds on {shown['machine']}: "
        f"{shown['seconds_to_the_run']:.0f} seconds to the end of the teacher's run, "
        f"{shown['cpu_seconds_of_commands']:.0f} seconds of processor time in total. In the run of the teacher, "
        f"`M2/teacher-reward` is above M1 by {_interval(gain)} of 5 "
        "points.\n"
    )


def ray(proof: dict[str, Any]) -> str:
    """Return the times of one process and of a Ray cluster, and the result of a killed node; empty if not measured."""
    shown = proof.get("ray")
    if not shown:
        return ""
    lines = ["| step | one process | two nodes | ratio |", "|---|---|---|---|"]
    for name, note in (("candidates", ", with the start of the actors"), ("judgements", "")):
        one, two = shown["seconds_of_one_process"][name], shown["seconds_of_two_nodes"][name]
        lines.append(f"| {shown[name]:,} {name}{note} | {one:.1f} s | {two:.1f} s | {shown['ratio'][name]:.2f} |")
    killed, same = shown["killed"], f"{shown['same_files']} of {shown['files']}"
    measured = (
        f"One run each, on {shown['machine']}, with a load of {shown['load_before']:g} by other work. {same} files of "
        "the two runs were the same, byte for byte."
    )
    lost = (
        f"One of the nodes was killed when the answers to {killed['stored_before']:,} prompts were stored. "
        f"{killed['same_files']} of {killed['files']} files were the same. {killed['asked_twice']} prompts were asked "
        f"twice; the answers to {killed['stored_and_asked_again']} of them had been stored."
    )
    return "\n".join([*lines, "", measured, "", lost]) + "\n"


def coverage(proof: dict[str, Any]) -> str:
    """Return the worst simulated figures by number of prompts, seeds or verdicts; empty if there are none."""
    shown = proof.get("coverage")
    if not shown:
        return ""
    differences = ("false_positives", "false_positives_of_asymmetric_differences")
    lines = ["Highest share of p-values below 0.05 where there is no difference, over all simulated distributions:", ""]
    lines += ["| prompts | before | after | before, asymmetric | after, asymmetric |", "|---|---|---|---|---|"]
    for count in shown[differences[0]]:
        cells = [max(one[side] for one in shown[name][count].values()) for name in differences for side in _SIDES]
        lines.append(f"| {count} | {' | '.join(f'{cell:.1%}' for cell in cells)} |")
    lines += ["", "Lowest and highest coverage of 95% intervals of a mean, where seeds differ by 0 to 0.4:", ""]
    kinds = list(shown["seeds"])
    columns = [f"{side}, {kind}" for kind in kinds for side in _SIDES]
    lines += [f"| seeds | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for number in shown["seeds"][kinds[0]]:
        found = [[one[side] for one in shown["seeds"][kind][number].values()] for kind in kinds for side in _SIDES]
        lines.append(f"| {number} | {' | '.join(f'{min(cells):.1%} to {max(cells):.1%}' for cells in found)} |")
    lines += ["", "Lowest coverage of 95% intervals:", "", "| measure | before | after |", "|---|---|---|"]
    for name, title in (
        ("clustered_shares", "share, {}"),
        ("win_rates", "win rate, {}"),
        ("strengths", "strength, {}"),
    ):
        for case, row in shown[name].items():
            before, after = (min(one[side] for one in row.values()) for side in _SIDES)
            lines.append(f"| {title.format(case.replace(', share', ','))} | {before:.1%} | {after:.1%} |")
    return "\n".join(lines) + "\n"


def changes(proof: dict[str, Any]) -> str:
    """Return what changed recipes kept, compared with fresh runs."""
    lines = ["| change | artifacts kept | equal to a fresh run | seconds | fresh run |", "|---|---|---|---|---|"]
    for name, found in proof.get("changes", {}).items():
        if isinstance(found, dict):
            kept = f"{found['artifacts_kept']} of {found['artifacts_before']}"
            equal = "yes" if found["equal_to_a_fresh_run"] else "NO"
            lines.append(f"| {name} | {kept} | {equal} | {found['seconds']['changed']} | {found['seconds']['fresh']} |")
    return "\n".join(lines) + "\n"


def mutants(proof: dict[str, Any]) -> str:
    """Return the number of killed mutants by module, and the survivors."""
    lines = ["| module | killed | equivalent | seconds |", "|---|---|---|---|"]
    survivors = []
    for name, found in proof.get("mutants", {}).get("modules", {}).items():
        share = found["killed"] / found["mutants"]
        killed = f"{found['killed']} of {found['mutants']} ({share:.0%})"
        lines.append(f"| {name} | {killed} | {len(found['equivalent'])} | {found['seconds']} |")
        survivors += [f"- `{survivor}`" for survivor in found["survivors"]]
    return "\n".join([*lines, "", *(["Survivors:", "", *survivors] if survivors else ["No mutant survived."])]) + "\n"


def sweep(proof: dict[str, Any]) -> str:
    """Return the table of a sweep, and its time compared with one run."""
    if "sweep" not in proof:
        return ""
    whole, one = proof["sweep"]["whole"], proof["sweep"]["one_pipeline"]
    ratio = whole["ratio_to_shared_and_eight_times_the_others"]
    return (
        f"```text\n{one['table'].strip()}\n```\n\n"
        f"On the whole embedded recipe, {whole['variants']} variants trained M1 {whole['trainings_of_m1']} time. "
        f"All steps took {whole['seconds_of_all_steps']} s: {ratio} times the {whole['steps_shared']} shared steps "
        f"once and the {whole['steps_of_each']} others {whole['variants']} times. With one round and one pipeline, "
        f"the sweep took {one['ratio_to_one_run']} times as long as one run.\n"
    )


def services(proof: dict[str, Any]) -> str:
    """Return the results on faults, kills and throughput. A measurement missing from ``proof`` is left out."""
    lines = []
    for service, faults in proof.get("service-faults", {}).items():
        if isinstance(faults, dict):
            ended = ", ".join(f"{count:,} {outcome}" for outcome, count in faults["outcomes"].items())
            lines.append(
                f"- `{service}`, with a test server on which 30% of the requests fail, with every kind of fault: "
                f"{faults['calls']:,} judge calls took {faults['attempts']:,} requests. The outcomes were {ended}. "
                f"{faults['answered_items_asked_twice']} answered items were requested twice."
            )
    for service, found in proof.get("service-hostile", {}).items():
        if isinstance(found, dict):
            memory = found["memory_mib"]
            lines.append(
                f"- `{service}`, with a hostile test server: {found['calls_of_each_kind']:,} calls of each of "
                f"{found['kinds']} kinds of fault, {found['requests']:,} requests. {len(found['wrong_kinds'])} kinds "
                f"ended otherwise than documented, {found['stored_answers_requested_again']} stored answers were "
                f"requested again, {found['requests_at_the_target_of_redirects']} requests followed a redirect, "
                f"{len(found['budgets_exceeded'])} budgets were exceeded, and the key was found in the output of "
                f"{len(found['leaks'])} of {found['leak_trials']} trials. Memory: {memory['warm']:.0f} MiB before, "
                f"{memory['peak']:.0f} MiB at peak."
            )
    if kills := proof.get("service-kills"):
        lines.append(
            f"- {kills['kills']} API runs were killed with `kill -9` and continued. {kills['same_artifacts']} of them "
            f"wrote the same artifacts as a run without a kill. With {kills['in_flight']} requests in flight, at most "
            f"{kills['most_repeated']} requests were sent again."
        )
    if speed := proof.get("service-throughput"):
        lines.append(
            f"- {speed['calls']:,} calls to a server with a latency of 200 ms, 64 in flight: "
            f"{speed['calls_per_second']:.0f} calls per second, {speed['of_possible']:.0%} of the possible rate. "
            f"Memory: {speed['mib_at_1000_calls']:.0f} MiB after 1,000 calls, {speed['mib_highest']:.0f} MiB at peak."
        )
    return "\n".join(lines) + "\n"


def families(proof: dict[str, Any]) -> str:
    """Return the table of model families, the reasons as notes below it."""
    rows = proof["families"]["families"]
    notes: dict[str, int] = {}

    def engine(fast: str, reason: str | None) -> str:
        return f"padded ({notes.setdefault(reason, len(notes) + 1)})" if reason else f"**{fast}**"

    def same(results: dict[str, Any], is_same: Callable[[Any], bool]) -> str:
        failed = [name for name, result in results.items() if not is_same(result)]
        return f"NO: {', '.join(failed)}" if failed else "yes"

    def has_same_answers(result: Any) -> bool:
        return isinstance(result, dict) and result["different"] == 0

    lines = [
        "| type in `config.json` | models | generation | training | answers of `generate` | steps of TRL | saved as in "
        "memory | adapter on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    refused = []
    for row in rows:
        if "refused" in row:
            refused.append(f"- `{row['type']}` ({row['models']}): {row['refused']}.")
            continue
        adapter = row["adapter"]
        cells = [
            f"`{row['type']}`",
            row["models"],
            engine("paged", row["engine"]),
            engine("packed", row["packing"]),
            same(row["generation"], has_same_answers),
            same(row["training"], lambda result: result is True),
            same(row["saved"], has_same_answers),
            " ".join(f"`{name}`" for name in adapter if not name.isdigit() and name != "base_layer")
            if isinstance(adapter, dict)
            else f"NO: {adapter}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    reasons = [f"{number}. {reason}" for reason, number in notes.items()]
    return "\n".join([*lines, "", "Reasons:", "", *reasons, "", "Refused:", "", *refused]) + "\n"


BLOCKS = {
    "coverage": coverage,
    "ray": ray,
    "changes": changes,
    "mutants": mutants,
    "sweep": sweep,
    "families": families,
    **GPU_BLOCKS,
    "demo": demo,
    "demo-end": demo_end,
    "result": result,
    "example": example,
    "seeds": seeds,
    "study": study,
    "robustness": robustness,
    "write-a-plugin": write_a_plugin,
    "services": services,
}
