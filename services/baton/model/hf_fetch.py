"""Fetches a model from the Hugging Face Hub with its own client, which resumes and shares blobs.

Takes GGUF, or safetensors with config and tokenizer: never pickles, never code. Knows no records.
"""

from pathlib import Path

from baton.common.errors import ModelSourceError
from baton.model.progress import Progress, Report
from baton.model.source import HfSource

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model*.safetensors",
    "model.safetensors.index.json",
)
WAYS_OUT = (
    "connect this machine, set HF_ENDPOINT to a mirror it can reach, or give the files as"
    " file://PATH"
)


class HfFetch:
    """Fetches HfSource models. `endpoint` None: the client's own default and HF_ENDPOINT."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def fetch(self, source: HfSource, directory: Path, progress: Progress, *, force: bool) -> Path:
        """Bring the files under `directory`; returns the GGUF file or the model directory.

        `force` fetches again what is there already. Raises ModelSourceError, OSError.
        """
        with progress.task(f"{source.repo}: download") as report:
            snapshot = self._snapshot(source, directory, report, force)
        model = snapshot / source.file if source.file is not None else snapshot
        wanted = model if source.file is not None else model / "config.json"
        if not wanted.is_file():
            hint = " (name a GGUF file with #FILE.gguf)" if source.file is None else ""
            raise ModelSourceError(f"hf://{source.repo}: the repository has no {wanted.name}{hint}")
        return model

    def _snapshot(self, source: HfSource, directory: Path, report: Report, force: bool) -> Path:
        # the client takes half a second to import: only those who fetch pay for it
        from huggingface_hub import errors, snapshot_download

        patterns = list(MODEL_FILES) if source.file is None else [source.file]
        try:
            return Path(
                snapshot_download(
                    source.repo,
                    revision=source.rev,
                    cache_dir=directory,
                    allow_patterns=patterns,
                    force_download=force,
                    endpoint=self._endpoint,
                    tqdm_class=_reporting_bar(report),
                )
            )
        except errors.GatedRepoError as error:
            raise _refused(source, "the repository asks for a login (set HF_TOKEN)") from error
        except errors.RepositoryNotFoundError as error:
            raise _refused(source, "no such repository, or it is private") from error
        except errors.RevisionNotFoundError as error:
            raise _refused(source, f"no revision {source.rev}") from error
        except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
            raise _refused(source, f"offline: the Hub cannot be reached; {WAYS_OUT}") from error
        except Exception as error:  # its HTTP library, whose errors leak, differs by version
            raise _refused(
                source, f"the Hub failed ({type(error).__name__}); {WAYS_OUT}"
            ) from error


def _refused(source: HfSource, why: str) -> ModelSourceError:
    return ModelSourceError(f"hf://{source.repo}: {why}")


def _reporting_bar(report: Report) -> type:
    """A bar in the client's own kind that draws nothing and passes the bytes on to `report`.

    The client makes several bars; the one counted in bytes whose name lacks `.transfer` tells how
    much of the files is on disk.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class ReportingBar(tqdm):
        def __init__(self, *arguments: object, **options: object) -> None:
            name = str(options.get("name"))
            self.counts_bytes = options.get("unit") == "B" and not name.endswith(".transfer")
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0  # a disabled bar counts nothing by itself
            if self.counts_bytes:
                report(int(self.n), int(self.total) if self.total else None)

    return ReportingBar
