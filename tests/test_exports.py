"""The lists of public names. Whoever adds or drops one changes this file too, on purpose, and the changelog."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest

EXPORTS = {
    "wire": [],
    "wire.metainfo": ["FileEntry", "Info", "MAX_TORRENT_BYTES", "Torrent", "create"],
    "wire.storage": ["DiskStore", "MemoryStore", "Progress", "Store", "whole_files"],
    "kademlia_bt": [
        "Contact",
        "Copies",
        "DhtStats",
        "ImmutableItem",
        "ItemRefusedError",
        "KeyPair",
        "MutableItem",
        "Node",
        "PeerSearch",
        "Pong",
        "QueryError",
        "SampleAnswer",
        "SwarmSize",
    ],
    "kademlia_bt.testing": ["Churn", "Impostor", "Poisoner", "Search", "SimNode", "Sybils", "World"],
    "magnet": [
        "Checked",
        "Config",
        "Counts",
        "DownloadError",
        "Failed",
        "Finished",
        "LinkError",
        "MagnetLink",
        "MetadataReady",
        "Phase",
        "Priority",
        "ResolveError",
        "Session",
        "TorrentEvent",
        "TorrentHandle",
        "TorrentStatus",
        "Verdict",
        "download",
        "resolve",
    ],
}

ALIASES = {"TorrentEvent", "Progress"}
"""Names for types, which can carry no docstring at run time."""


@pytest.mark.parametrize("package", EXPORTS)
def test_the_public_names(package: str) -> None:
    assert sorted(getattr(importlib.import_module(package), "__all__", [])) == EXPORTS[package]


@pytest.mark.parametrize("name", [f"{package}:{name}" for package, names in EXPORTS.items() for name in names])
def test_each_says_what_it_is(name: str) -> None:
    package, _, attribute = name.partition(":")
    value = getattr(importlib.import_module(package), attribute)
    if attribute in ALIASES or not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    assert _own_words(value), f"{name} has no docstring"
    if inspect.isclass(value):
        silent = [
            member
            for member, function in vars(value).items()
            if not member.startswith("_")
            and callable(getattr(function, "fget", function))
            and not inspect.getdoc(function)
        ]
        assert silent == [], f"{name} has members without a docstring"


def _own_words(value: object) -> bool:
    words = inspect.getdoc(value) or ""
    if dataclasses.is_dataclass(value) and isinstance(value, type):
        return not words.startswith(f"{value.__name__}(")  # what dataclasses write by themselves
    return bool(words)
