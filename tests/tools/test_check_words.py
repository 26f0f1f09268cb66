"""Retired words are found in prose and in names, and nothing else is."""

from __future__ import annotations

import pytest

from tools import check_words

ENTRIES = check_words.read(
    "# A comment.\nlane, lanes: execution slot\n"
    'verdict: comparison; ="verdict" docs/* tests/old.py\n'
)


def found(text: str, file: str = "fastseg/a.py") -> list[tuple[int, str]]:
    return list(check_words.problems(file, text, ENTRIES))


@pytest.mark.parametrize(
    "text",
    ["a lane", "Lanes", "LANE", "free_lane", "_lanes", "FreeLane", "laneFree", "lane2"],
)
def test_a_retired_word_is_found_in_any_spelling(text):
    assert len(found(text)) == 1


@pytest.mark.parametrize("text", ["plane", "planet", "an airplane's", "in_plane", "Planes"])
def test_a_word_that_only_contains_it_is_left_alone(text):
    assert found(text) == []


def test_line_and_term_are_told():
    assert found("x\n\nopen_lane = 1") == [(3, "'lane' is a retired word: execution slot")]


@pytest.mark.parametrize(
    ("file", "count"), [("docs/a.md", 0), ("tests/old.py", 0), ("fastseg/a.py", 1)]
)
def test_a_file_may_keep_a_word_and_no_other(file, count):
    assert len(found("verdict", file)) == count
    assert len(found("lane", file)) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [('{"verdict": 1}', 0), ("{'verdict': 1}", 1), ('"verdict"_a', 1), ('"verdict" verdict', 1)],
)
def test_a_spelling_is_kept_as_a_whole_and_everywhere(text, count):
    assert len(found(text)) == count


def test_the_command_names_every_find_and_fails(tmp_path, capsys):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("an execution slot")
    bad.write_text("a turnstile\nand a verdict")
    assert check_words.main([str(good)]) == 0
    assert check_words.main([str(good), str(bad)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("/")[2].split(" ")[0] for line in lines] == ["bad.py:1:", "bad.py:2:"]


def test_the_dictionary_has_lower_case_words_with_a_term():
    entries = check_words.read(check_words.DICTIONARY.read_text(encoding="utf-8"))
    assert len(entries) > 20
    for word, entry in entries.items():
        assert check_words.WORD.findall(word) == [word.lower()]
        assert entry.term
