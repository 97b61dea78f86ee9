"""What may differ when a run goes on."""

from vidkd.base.settings import as_dict, merge
from vidkd.engine.config import load_config
from vidkd.engine.run_folder import differences


def test_a_run_older_than_a_setting_had_its_default() -> None:
    """A setting that was added since a run began does not keep it from going on, as long as it stands at its default."""
    new = load_config(settings={"task": "mars"})
    old = merge(as_dict(new), {"optim.lr": 5.0})
    old["data"] = {key: value for key, value in old["data"].items() if key != "decoder"}
    assert differences(new, old) == {"optim.lr": (1e-3, 5.0)}
    assert differences(load_config(settings={"task": "mars", "data.decoder": "pyav"}), old)["data.decoder"] == ("pyav", "auto")
