"""Clocks that move only when told."""


class FakeTime:
    """Seconds of the host. Call it for the time; `spend` lets some pass."""

    def __init__(self, now: float = 7.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


class FakeCuda:
    """`torch.cuda` of a GPU that works off what is launched while the host goes on."""

    def __init__(self, host: FakeTime) -> None:
        self.host, self.free_at = host, 0.0

    def launch(self, seconds: float) -> None:
        """Queue a kernel of so many seconds."""
        self.free_at = max(self.free_at, self.host.now) + seconds

    def synchronize(self) -> None:
        self.host.now = max(self.host.now, self.free_at)
