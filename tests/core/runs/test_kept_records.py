from pathlib import Path

from tutelage.files.jsonl import write_rows
from tutelage.records import Candidate
from tutelage.runs.kept_records import KeptRecords


def test_the_files_that_were_read_longest_ago_are_read_again_if_all_are_larger_than_the_limit(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path in paths:
        write_rows(path, [Candidate("p", 0, path.name)])
    size = paths[0].stat().st_size
    kept = KeptRecords(size=2 * size)

    def read(path: Path) -> Candidate:
        record: Candidate
        [record] = kept.read(path, Candidate, path.stat())
        assert record == Candidate("p", 0, path.name)
        return record

    first, second, third = paths
    before = read(first), read(second)
    assert read(first) is before[0]
    read(third)  # now the second file was read longest ago
    assert read(first) is before[0]
    assert read(second) is not before[1]


def test_a_file_that_is_larger_than_the_limit_is_read_but_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [Candidate("p", 0, "one")])
    kept = KeptRecords(size=path.stat().st_size - 1)
    first, second = (kept.read(path, Candidate, path.stat()) for _ in range(2))
    assert first == second == (Candidate("p", 0, "one"),)
    assert first[0] is not second[0]
