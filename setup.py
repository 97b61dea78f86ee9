"""What pyproject.toml cannot say: the wheel holds `configs/` as the package vidkd.configs."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vidkd*"]), "vidkd.configs"],
    package_dir={"vidkd.configs": "configs"},
    package_data={
        "vidkd.report": ["*.j2", "*.css", "*.js"],
        "vidkd.configs": sorted(str(path.relative_to("configs")) for path in Path("configs").rglob("*.yaml")),
    },
)
