"""How data sets lie on disk: one file a layout, `read(root, options) -> Reading`, as the official archive unpacks or in the tidy form."""

from vidkd.data.layouts import (
    csv_list,
    epic100,
    folder,
    hmdb51,
    jhmdb,
    something,
    ucf101,
    ut_interaction,
    weizmann,
)
from vidkd.data.layouts.common import Layout, Options, Reading

LAYOUTS: dict[str, Layout] = {
    "csv": csv_list.read,
    "epic100": epic100.read,
    "folder": folder.read,
    "hmdb51": hmdb51.read,
    "jhmdb": jhmdb.read,
    "something": something.read,
    "ucf101": ucf101.read,
    "ut_interaction": ut_interaction.read,
    "ut_interaction_untrimmed": ut_interaction.read_untrimmed,
    "weizmann": weizmann.read,
}

__all__ = ["LAYOUTS", "Layout", "Options", "Reading"]
