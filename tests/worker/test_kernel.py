from pathlib import Path

from worker.kernel import Kernel, memory_counters


def test_only_what_was_logged_since_the_start_counts(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("6,1,100,-;NVRM: Xid of an earlier job\n")
    kernel = Kernel(log, [])
    with log.open("a") as stream:
        stream.write("6,2,200,-;NVRM: Xid (PCI:0000:41:00): 79\n SUBSYSTEM=pci\nplain line\n")
    assert kernel.lines() == ["NVRM: Xid (PCI:0000:41:00): 79", " SUBSYSTEM=pci", "plain line"]
    assert kernel.lines() == kernel.lines()
    kernel.close()


def test_kills_are_counted_from_the_start(tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 3\noom_kill 2\n")
    kernel = Kernel(tmp_path / "none", [counter])
    assert kernel.oom_kills() == 0
    counter.write_text("low 0\noom 4\noom_kill 3\n")
    assert kernel.oom_kills() == 1
    kernel.close()


def test_where_nothing_may_be_read_nothing_is_said(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "none", [tmp_path / "none"])
    assert (kernel.lines(), kernel.oom_kills()) == ([], 0)
    kernel.close()


def test_the_nearest_counter_is_used(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "vmstat").write_text("oom_kill 1\n")
    assert memory_counters(proc, cgroups) == [proc / "vmstat"]
    (proc / "self" / "cgroup").write_text("4:memory:/old\n0::/user/job\n")
    (cgroups / "user" / "job").mkdir(parents=True)
    (cgroups / "user" / "job" / "memory.events").touch()
    assert memory_counters(proc, cgroups) == [cgroups / "user" / "job" / "memory.events"]
    (cgroups / "memory" / "old").mkdir(parents=True)
    (cgroups / "memory" / "old" / "memory.oom_control").touch()
    assert memory_counters(proc, cgroups) == [cgroups / "memory" / "old" / "memory.oom_control"]
