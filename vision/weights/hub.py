"""The model hub: what a repository is and has, and its files at a pinned commit, through huggingface_hub.

``HF_ENDPOINT`` names another hub than huggingface.co. What a repository says of itself is text of strangers: it is
shortened and freed from control characters here.
"""

import hashlib
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vision.weights.registry import FileSpec, HubSource
from vision.weights.sources import Progress, SourceError, check_digest, check_size, digest, part_path

ANSWER_S: Final = 5.0
"""Timeout of an answer of the hub."""
FORGET_S: Final = 60.0
"""Time after which an unreachable hub is asked again."""
LONGEST_FACT: Final = 200
MOST_FACTS: Final = 8

COMMERCIAL: Final = frozenset(
    [
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense"),
        *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "wtfpl"),
        *("ms-pl", "mpl-2.0", "epl-2.0", "lgpl-2.1", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0", "artistic-2.0"),
        *("bsl-1.0", "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m", "bigcode-openrail-m"),
    ]
)
"""Licences of the hub, by its names, that allow commercial use, some of them under conditions."""


@dataclass(frozen=True)
class Repository:
    """A repository at one commit. ``licence``: as the hub names it, "unknown" without one. ``facts``: name → text of
    its card. ``closed``: whether its files need a token. ``files``: name → size in bytes and, for large files, sha256.
    """

    name: str
    commit: str
    url: str
    licence: str
    licence_url: str
    closed: bool
    facts: Mapping[str, str]
    files: Mapping[str, FileSpec]

    @property
    def commercial(self) -> bool:
        """Return whether its licence is known to allow commercial use."""
        return self.licence in COMMERCIAL


class Hub:
    """A client of the model hub that remembers for ``FORGET_S`` seconds that the hub was unreachable.

    ``endpoint``: None for the one of huggingface_hub (HF_ENDPOINT).
    """

    def __init__(
        self, token: str = "", endpoint: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = token
        self._endpoint = endpoint
        self._clock = clock
        self._silent_until = float("-inf")

    def obstacle(self, source: HubSource) -> str:
        """Return why ``source`` cannot be downloaded now; empty when it can."""
        if source.gated and not self._token:
            return "gated: accept its licence on its hub page, then set HF_TOKEN"
        if self._clock() < self._silent_until:
            return "the hub could not be reached a moment ago"
        return ""

    def fetch(self, source: HubSource, wanted: Mapping[str, FileSpec], parts: Path, progress: Progress) -> None:
        """Download the wanted files into ``parts``, resuming what an earlier call left there.

        A file without a registered sha256 is verified against the hub's metadata for this commit: the sha256 of a large
        file, the git id of a small one.
        """
        if why := self.obstacle(source):
            raise SourceError(why)
        with self._reasons():
            for name, spec in wanted.items():
                self._fetch(source, name, spec, parts, progress)

    def describe(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository at a branch, tag or commit; without one at the newest commit of its main branch.

        Raises SourceError with the reason, and what to do, when the hub does not show it.
        """
        from huggingface_hub import HfApi, constants

        with self._reasons():
            info = HfApi(self._endpoint, token=self._token or False).model_info(
                repo, revision=revision, files_metadata=True, timeout=ANSWER_S
            )
        if info.sha is None:
            raise SourceError("the hub names no commit of it")
        url = f"{self._endpoint or constants.ENDPOINT}/{repo}"
        licence, licence_url = _licence(info.card_data, f"{url}/blob/{info.sha}")
        return Repository(
            name=repo,
            commit=info.sha,
            url=url,
            licence=licence,
            licence_url=licence_url,
            closed=bool(info.gated or info.private),
            facts=_facts(info),
            files=dict(_files(info.siblings or ())),
        )

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        """Turn what huggingface_hub raises into a SourceError with the reason."""
        from huggingface_hub import errors

        try:
            yield
        except SourceError:
            raise
        except errors.GatedRepoError as error:
            raise SourceError("gated: HF_TOKEN has no access; accept the licence on its hub page") from error
        except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
            raise SourceError("no such commit or file") from error
        except errors.RepositoryNotFoundError as error:
            closed = "HF_TOKEN may not read it" if self._token else "it is private: set HF_TOKEN"
            raise SourceError(f"no such repository, or {closed}") from error
        except errors.HFValidationError as error:
            raise SourceError("is no name of a repository") from error
        except errors.HfHubHTTPError as error:
            raise SourceError(f"the hub answered {error.response.status_code}") from error
        except errors.OfflineModeIsEnabled as error:
            raise SourceError("HF_HUB_OFFLINE is set") from error
        except OSError as error:
            if error.errno is None and not isinstance(error, errors.LocalEntryNotFoundError):
                raise SourceError("the download ended early; run it again to resume it") from error
            if not isinstance(error, errors.LocalEntryNotFoundError):
                raise
            raise self._unreached(error) from error
        except Exception as error:
            # transport errors of two libraries, which do not export them
            raise self._unreached(error) from error

    def _unreached(self, error: Exception) -> SourceError:
        self._silent_until = self._clock() + FORGET_S
        return SourceError(f"the hub could not be reached ({type(error).__name__})")

    def _fetch(self, source: HubSource, name: str, spec: FileSpec, parts: Path, progress: Progress) -> None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.file_download import http_get

        url = hf_hub_url(source.repo, source.files.get(name, name), revision=source.revision, endpoint=self._endpoint)
        token = self._token or False
        # asked once before the download, which retries for minutes when nobody answers
        stated = get_hf_file_metadata(url, token=token, timeout=ANSWER_S, endpoint=self._endpoint)
        etag = stated.etag or ""
        large = re.fullmatch("[0-9a-f]{64}", etag) is not None
        if stated.size is not None:
            check_size(name, stated.size, spec)
        if large:
            check_digest(name, etag, spec.sha256)
        elif spec.sha256 is None and re.fullmatch("[0-9a-f]{40}", etag) is None:
            raise SourceError(f"{name} has no registered sha256 and the hub has none either")
        whole = part_path(parts, name)
        if whole.is_file() and (digest(whole) == spec.sha256 or (digest if large else git_id)(whole) == etag):
            return
        # hf_hub_download starts anew after a process was killed
        part = part_path(parts / "hub", f"{name}.{etag[:16]}")
        if stated.size is not None and part.is_file() and part.stat().st_size > stated.size:
            part.unlink()
        # httpx leaves the token out where it is redirected to another host
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
        with part.open("ab") as out:
            http_get(
                url,
                out,
                resume_size=out.tell(),
                headers=headers,
                expected_size=stated.size,
                tqdm_class=_bar(name, progress),
            )
        if spec.sha256 is None and (digest if large else git_id)(part) != etag:
            part.unlink()
            raise SourceError(f"{name} does not match the hub's metadata for this commit")
        part.replace(whole)


def _licence(card: Any, blob: str) -> tuple[str, str]:
    """Return the name of the licence on a card, "unknown" without one, and where its text is."""
    name, own, link = (_clean(getattr(card, field, None)) for field in ("license", "license_name", "license_link"))
    if name in ("", "other"):
        name = own or "unknown"
    if link and not re.match(r"https?://", link):
        link = f"{blob}/{link}"
    return name, link or f"{blob}/README.md"


def _facts(info: Any) -> dict[str, str]:
    """Return what a card says, in words: name → text."""
    card = info.card_data
    results = [
        f"{result.metric_name or result.metric_type} {result.metric_value} on {result.dataset_name}"
        for result in getattr(card, "eval_results", None) or ()
    ]
    said = {
        "changed": info.last_modified and info.last_modified.date().isoformat(),
        "library": info.library_name,
        "task": info.pipeline_tag,
        "made from": getattr(card, "base_model", None),
        "trained on": getattr(card, "datasets", None),
        "languages": getattr(card, "language", None),
        "measured": results,
        "downloads": info.downloads,
    }
    return {name: text for name, value in said.items() if (text := _clean(value))}


def _files(siblings: Iterable[Any]) -> Iterator[tuple[str, FileSpec]]:
    """Yield name, size and, for files that the hub has one of, the sha256."""
    for file in siblings:
        if file.size:
            yield file.rfilename, FileSpec(size=file.size, sha256=file.lfs.sha256 if file.lfs else None)


def _clean(value: Any) -> str:
    """Return text of strangers as one short line without control characters; a list's first parts, joined."""
    if isinstance(value, list):
        more = ["…"] if len(value) > MOST_FACTS else []
        return _clean(", ".join([*(_clean(part) for part in value[:MOST_FACTS]), *more]))
    words = " ".join(str(value or "").split())
    text = "".join(character for character in words if unicodedata.category(character)[0] != "C")
    return text if len(text) <= LONGEST_FACT else text[: LONGEST_FACT - 1] + "…"


def git_id(path: Path) -> str:
    """Return the git blob id of a file: sha1 over its length and bytes, in hex."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def _bar(name: str, progress: Progress) -> type:
    """Return a silent progress bar class for huggingface_hub that calls ``progress``."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            progress(name, int(self.n), int(self.total or 0))

        def update_transfer(self, n: float) -> None:
            """Ignore bytes on the wire; without this method huggingface_hub makes a second bar for them."""

        def set_transfer_postfix_str(self, text: str, refresh: bool = True) -> None:
            """Ignore the transfer speed."""

    return Bar
