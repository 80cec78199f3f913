"""Model sources of the custom resource: what each spelling says, and what is refused."""

import pytest
from baton.model.source import parse_source
from baton_operator.sources import (
    ClaimWeights,
    FetchedWeights,
    ImageWeights,
    ModelSource,
    PresentWeights,
    Weights,
)

DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("pvc://models/smol/model.gguf", ClaimWeights("models", "smol/model.gguf")),
        ("oci://weights:v1/model.gguf", ImageWeights("weights:v1", "model.gguf")),
        (
            "oci://registry.example:5000/team/weights:v1/models/smol",
            ImageWeights("registry.example:5000/team/weights:v1", "models/smol"),
        ),
        (f"oci://a.b/c{DIGEST}/m.gguf", ImageWeights(f"a.b/c{DIGEST}", "m.gguf")),
        (f"oci://a.b/c:v2{DIGEST}/m.gguf", ImageWeights(f"a.b/c:v2{DIGEST}", "m.gguf")),
        ("hf://org/repo@main#m.gguf", FetchedWeights("hf://org/repo@main#m.gguf")),
        ("hf://org/repo", FetchedWeights("hf://org/repo")),
        ("pip://pkg==1.0#m.gguf", FetchedWeights("pip://pkg==1.0#m.gguf")),
        ("file:///models/m.gguf", PresentWeights("file:///models/m.gguf")),
    ],
)
def test_each_spelling_says_where_the_weights_are(text: str, weights: Weights) -> None:
    assert ModelSource(text).weights == weights


@pytest.mark.parametrize(
    "text", ["hf://org/repo@v1.2#a/m.gguf", "pip://p==1#d/m.gguf", "file:///m"]
)
def test_what_a_pod_resolves_itself_is_a_reference_that_its_resolver_takes(text: str) -> None:
    parse_source(text)
    assert ModelSource(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.gguf",
        "s3://bucket/m.gguf",
        "pvc://claim",
        "pvc://claim/../other",
        "pvc://Claim/m.gguf",
        "pvc://claim/-rf",
        "oci://weights/model.gguf",
        "oci://registry.example:5000/weights/model.gguf",
        "oci://weights:v1",
        "oci://weights:v1/../etc",
        "pip://pkg#m.gguf",
        "pip://pkg==1#../m.gguf",
        "pip://--index-url==1#m.gguf",
        "hf://org",
        "file://relative/m.gguf",
        "file:///a\nb",
        "pvc://c/" + "x" * 2_000,
    ],
)
def test_anything_else_is_refused_and_the_error_shows_the_spellings(text: str) -> None:
    with pytest.raises(ValueError, match="write the source as pvc://CLAIM/PATH"):
        ModelSource(text)
