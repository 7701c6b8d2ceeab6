"""Children, waiting for a condition, free ports."""

import os
import pathlib
import signal
import socket
import subprocess
import time

DEADLINE = 60.0  # seconds; generous, because it only bounds how long a failure takes


class Failed(Exception):
    """A program ended with an error, or a condition did not come true in time."""


def wait_for(condition, what, deadline=DEADLINE, alive=None):
    """Polls until condition() is true and returns its value; raises Failed after the deadline.

    alive: a Child whose early end makes waiting pointless.
    """
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if alive is not None and alive.process.poll() is not None:
            raise Failed(f"{what}: {alive.name} ended with {alive.process.returncode}\n"
                         f"{alive.log_tail()}")
        if time.monotonic() > end:
            log = f"\n{alive.log_tail()}" if alive is not None else ""
            raise Failed(f"{what}: not within {deadline:.0f} s{log}")
        time.sleep(0.01)


def free_port():
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port, host="127.0.0.1"):
    """True when somebody accepts connections on this port, of loopback if nothing is said."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def accepts(path):
    """True when somebody accepts connections on this unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def run(command, check=True, input=None, timeout=600, **options):
    """Runs a command to its end; returns the CompletedProcess with text of both streams."""
    command = [str(word) for word in command]
    options.setdefault("stdin", subprocess.DEVNULL if input is None else None)
    if input is not None:
        del options["stdin"]
        options["input"] = input
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False, timeout=timeout, **options)
    if check and done.returncode:
        raise Failed(f"{' '.join(command)}\nended with {done.returncode}\n"
                     f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


class Child:
    """A long-running program in a process group of its own, its output in a file.

    It ends with us, also when we are killed.
    """

    def __init__(self, name, command, log, env=None, cwd=None):
        self.name = name
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *(str(word) for word in command)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd,
                start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def log_text(self):
        return self.log.read_text(errors="replace")

    def log_tail(self, lines=30):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def kill(self):
        """Ends the group at once, as a crash or the kernel would."""
        self._signal(signal.SIGKILL)
        self.process.wait(DEADLINE)

    def stop(self, deadline=DEADLINE):
        """Asks to end, insists after the deadline; returns the exit code."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        return self.process.wait()

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass
