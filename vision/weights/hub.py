"""Files of a hub repository at a pinned commit."""

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vision.weights.registry import FileSpec, HubSource
from vision.weights.sources import (
    Progress,
    SourceError,
    check_digest,
    check_size,
    digest,
    discard,
    part_path,
)

ANSWER_S = 5.0
FORGET_S = 60.0


class Hub:
    """A client of the hub that remembers for ``FORGET_S`` seconds that it could not be reached.

    ``endpoint``: None for the hub that huggingface_hub is set to (HF_ENDPOINT).
    """

    def __init__(
        self, token: str = "", endpoint: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = token
        self._endpoint = endpoint
        self._clock = clock
        self._silent_until = float("-inf")

    def obstacle(self, source: HubSource) -> str:
        """Why it is of no use to ask for ``source`` now; empty when it is."""
        if source.gated and not self._token:
            return "gated: accept its licence on its hub page, then set HF_TOKEN"
        if self._clock() < self._silent_until:
            return "the hub could not be reached a moment ago"
        return ""

    def fetch(self, source: HubSource, wanted: Mapping[str, FileSpec], parts: Path, progress: Progress) -> None:
        """Download the wanted files into ``parts``.

        A file without a registered sha256 is checked with what the hub states for this commit: the
        sha256 of a large file, the git id of a small one.
        """
        if why := self.obstacle(source):
            raise SourceError(why)
        from huggingface_hub import errors

        discard(parts / "hub")  # what a killed download left there cannot be taken up again
        try:
            for name, spec in wanted.items():
                self._fetch(source, name, spec, parts, progress)
        except SourceError:
            raise
        except errors.GatedRepoError as error:
            raise SourceError("gated: HF_TOKEN was not let in; accept the licence on its hub page") from error
        except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
            raise SourceError("no such commit or file") from error
        except errors.RepositoryNotFoundError as error:
            raise SourceError("no such repository, or HF_TOKEN may not read it") from error
        except errors.HfHubHTTPError as error:
            raise SourceError(f"the hub answered {error.response.status_code}") from error
        except errors.OfflineModeIsEnabled as error:
            raise SourceError("HF_HUB_OFFLINE is set") from error
        except OSError as error:
            if not isinstance(error, errors.LocalEntryNotFoundError):
                raise
            raise self._unreached(error) from error
        except Exception as error:
            # the transport errors of two libraries, of which neither is exported
            raise self._unreached(error) from error

    def _unreached(self, error: Exception) -> SourceError:
        self._silent_until = self._clock() + FORGET_S
        return SourceError(f"the hub could not be reached ({type(error).__name__})")

    def _fetch(self, source: HubSource, name: str, spec: FileSpec, parts: Path, progress: Progress) -> None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        remote = source.files.get(name, name)
        token = self._token or False
        # asked first and once: the download itself retries for minutes when nobody answers
        stated = get_hf_file_metadata(
            hf_hub_url(source.repo, remote, revision=source.revision, endpoint=self._endpoint),
            token=token,
            timeout=ANSWER_S,
            endpoint=self._endpoint,
        )
        etag = stated.etag or ""
        large = re.fullmatch("[0-9a-f]{64}", etag) is not None
        if stated.size is not None:
            check_size(name, stated.size, spec)
        if large:
            check_digest(name, etag, spec.sha256)
        elif spec.sha256 is None and re.fullmatch("[0-9a-f]{40}", etag) is None:
            raise SourceError(f"{name} has no registered sha256 and the hub states none")
        path = Path(
            hf_hub_download(
                source.repo,
                remote,
                revision=source.revision,
                local_dir=parts / "hub",
                token=token,
                endpoint=self._endpoint,
                etag_timeout=ANSWER_S,
                tqdm_class=_bar(name, progress),
            )
        )
        if spec.sha256 is None and (digest if large else git_id)(path) != etag:
            path.unlink()
            raise SourceError(f"{name} is not what the hub states for this commit")
        path.replace(part_path(parts, name))


def git_id(path: Path) -> str:
    """Id of a file as git stores it: sha1 over its length and bytes, in hex."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def _bar(name: str, progress: Progress) -> type:
    """A silent progress bar class for huggingface_hub that tells ``progress``."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            progress(name, int(self.n), int(self.total or 0))

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire: with this method here huggingface_hub makes no second bar for them."""

        def set_transfer_postfix_str(self, text: str, refresh: bool = True) -> None:
            """Speed on the wire; not shown."""

    return Bar
