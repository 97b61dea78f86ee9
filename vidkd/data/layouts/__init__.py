"""How data sets lie on disk: a reader each, `read(root, options) -> Reading`, as the official archive unpacks or in the tidy form."""

from vidkd.data.layouts import epic100, hmdb51, own_data, something, ucf101, ut_interaction, weizmann
from vidkd.data.layouts.common import Layout, Options, Reading

LAYOUTS: dict[str, Layout] = {
    "csv": own_data.read_csv,
    "epic100": epic100.read,
    "folder": own_data.read_folder,
    "hmdb51": hmdb51.read,
    "jhmdb": hmdb51.read_jhmdb,
    "something": something.read,
    "ucf101": ucf101.read,
    "ut_interaction": ut_interaction.read,
    "ut_interaction_untrimmed": ut_interaction.read_untrimmed,
    "weizmann": weizmann.read,
}

__all__ = ["LAYOUTS", "Layout", "Options", "Reading"]
