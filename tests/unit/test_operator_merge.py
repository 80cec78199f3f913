"""Strategic merge: maps by name, lists by their key, everything else replaced."""

from baton_operator.merge import strategic_merge


def test_maps_are_merged_and_what_is_not_said_stays() -> None:
    merged = strategic_merge({"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 3}, "c": 4})
    assert merged == {"a": 1, "b": {"x": 1, "y": 3}, "c": 4}


def test_containers_are_merged_by_name_and_keep_their_order() -> None:
    merged = strategic_merge(
        {"containers": [{"name": "decode", "image": "i", "args": ["--a"]}, {"name": "side"}]},
        {"containers": [{"name": "decode", "args": ["--b"]}, {"name": "new"}]},
    )
    assert merged["containers"] == [
        {"name": "decode", "image": "i", "args": ["--b"]},  # args have no key: replaced
        {"name": "side"},
        {"name": "new"},
    ]


def test_mounts_are_told_apart_by_their_path() -> None:
    merged = strategic_merge(
        {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},
        {"volumeMounts": [{"name": "mine", "mountPath": "/tmp"}, {"name": "x", "mountPath": "/x"}]},
    )
    assert merged["volumeMounts"] == [
        {"name": "mine", "mountPath": "/tmp"},
        {"name": "x", "mountPath": "/x"},
    ]


def test_tolerations_add_up_and_none_is_said_twice() -> None:
    gpu, spot = {"key": "gpu"}, {"key": "spot"}
    merged = strategic_merge({"tolerations": [gpu]}, {"tolerations": [gpu, spot]})
    assert merged["tolerations"] == [gpu, spot]


def test_a_value_of_another_kind_replaces() -> None:
    assert strategic_merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert strategic_merge({"a": [1]}, {"a": "text"}) == {"a": "text"}


def test_neither_side_is_changed() -> None:
    under, over = {"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}
    strategic_merge(under, over)
    assert under == {"env": [{"name": "A", "value": "1"}]}
    assert over == {"env": [{"name": "A", "value": "2"}]}
