"""What a SOURCE names."""

from pathlib import Path

import pytest

from ops.bulk.sources import Item, SourceError, find_items, open_item

ID, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.MP4", "a.mov", "deep/er/c.webm", "notes.txt", "d.jpg"):
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "films" / "dir.mp4").mkdir()
    return tmp_path / "films"


def names(*sources: object) -> list[str]:
    return [item.filename for item in find_items(map(str, sources))]


def test_a_folder_is_searched_to_its_depth_for_files_called_as_videos(folder: Path) -> None:
    assert names(folder) == ["a.mov", "b.MP4", "c.webm"]


def test_a_glob_and_a_file_are_taken_as_they_are_called(folder: Path) -> None:
    assert names(folder / "*.jpg") == ["d.jpg"]
    assert names(folder / "**" / "*.webm") == ["c.webm"]
    assert names(folder / "d.jpg") == ["d.jpg"]


def test_what_is_named_twice_counts_once_in_the_order_of_the_sources(folder: Path) -> None:
    assert names(folder / "b.MP4", folder, folder) == ["b.MP4", "a.mov", "c.webm"]


def test_asset_ids_are_given_alone_or_in_a_file(tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text(f"# of last week\n{ID}\n\n  {OTHER} # a remark\n{ID}\n")
    both = [Item("asset", ID, ID), Item("asset", OTHER, OTHER)]
    assert find_items([ID, OTHER]) == both
    assert find_items([str(listed)]) == both
    assert find_items([f"@{listed}"]) == both


@pytest.mark.parametrize(
    ("text", "message"), [("film.mp4", "no asset id"), ("", "no asset ids"), (f"{ID}0", "no asset id")]
)
def test_a_list_of_anything_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ids").write_text(text)
    with pytest.raises(SourceError, match=message):
        find_items([f"@{tmp_path / 'ids'}"])


@pytest.mark.parametrize("source", ["nowhere", "no*.mp4", "@nowhere", "s3://", "s3://key:secret@bucket"])
def test_nothing_to_index_is_an_error(source: str) -> None:
    with pytest.raises(SourceError):
        find_items([source])


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no files that end in"):
        find_items([str(tmp_path)])


def test_a_file_is_read_from_its_beginning(folder: Path) -> None:
    (item,) = find_items([str(folder / "a.mov")])
    with open_item(item) as file:
        assert file.read() == b"a.mov"
    (folder / "a.mov").unlink()
    with pytest.raises(SourceError, match="cannot be read: No such file"), open_item(item):
        pass
