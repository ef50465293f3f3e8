"""Settings: frozen groups, validated when they are made.

Read from ``leaderjob.toml``, then ``LEADERJOB_<GROUP>_<NAME>`` variables, then flags, the later ones
winning. Lists are comma-separated or JSON, durations ``10`` (seconds), ``10s``, ``5m``. A group per file;
what the values mean to the rest of the program does not belong here.
"""

from leaderjob.settings.described import Setting, Table, override_table, tables, variable_names
from leaderjob.settings.election import ElectionSettings
from leaderjob.settings.etcd import EtcdSettings
from leaderjob.settings.load import CONFIG_FILE, Loaded, Origin, load_settings, load_with_origins
from leaderjob.settings.override import JobOverride
from leaderjob.settings.replica import ReplicaSettings, TlsSettings
from leaderjob.settings.reporting import LogSettings, SentrySettings
from leaderjob.settings.root import PREFIX, ResultsSettings, Settings

__all__ = [
    "CONFIG_FILE",
    "PREFIX",
    "ElectionSettings",
    "EtcdSettings",
    "JobOverride",
    "Loaded",
    "LogSettings",
    "Origin",
    "ReplicaSettings",
    "ResultsSettings",
    "SentrySettings",
    "Setting",
    "Settings",
    "Table",
    "TlsSettings",
    "load_settings",
    "load_with_origins",
    "override_table",
    "tables",
    "variable_names",
]
