"""A kernel whose libraries are imported once for many notebooks: each gets a fork of one process that has them.

Importing torch, transformers and matplotlib takes a quarter of the time of a lesson in the smoke profile. ``serving`` starts
the process that has imported them and tells Jupyter of the kernel "warm"; a notebook that is run with it begins in a fresh
copy of that process, with an environment and a folder of its own and nothing of another notebook. For tests, on systems
that fork; `make course` and a learner's Jupyter start each kernel from nothing.

python scripts/warm_kernel.py serve SOCKET MODULE... | start SOCKET ARGUMENTS-OF-ipykernel_launcher
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# What the lessons import, nothing of the course itself: it reads language and profile from the environment.
IMPORTS = ("ipykernel.kernelapp", "ipykernel.ipkernel", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "ipywidgets",
           "torch", "safetensors.torch", "transformers.models.qwen3.modeling_qwen3", "transformers.models.auto")  # fmt: skip
SIZE = 2**20  # bytes of a message at most


@contextlib.contextmanager
def serving(python, environment, imports=IMPORTS):
    """Run the process with the imports while the block runs; yield the environment in which Jupyter knows the kernel "warm"."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        place, kernel = Path(folder) / "socket", Path(folder) / "kernels" / "warm"
        kernel.mkdir(parents=True)
        argv = [str(python), "-S", "-E", str(Path(__file__).resolve()), "start", str(place), "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "warm", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        path = os.pathsep.join(filter(None, (folder, environment.get("JUPYTER_PATH"))))
        with subprocess.Popen([str(python), __file__, "serve", str(place), *imports], env=environment) as server:
            try:
                while not place.exists():  # it is there when all is imported
                    if server.poll() is not None:
                        sys.exit(f"the process with the imports ended with exit code {server.returncode}")
                    time.sleep(0.1)
                yield {"JUPYTER_PATH": path}
            finally:
                server.terminate()


def serve(place, imports):
    """Import, then answer each connection with a fork that becomes a kernel; a closed connection ends its kernel."""
    for name in imports:
        importlib.import_module(name)
    gc.freeze()  # what is there is shared by all, and no copy looks through it again
    listener, kernels = socket.socket(socket.AF_UNIX), {}
    with listener:
        listener.bind(f"{place}.new")
        listener.listen()
        Path(f"{place}.new").rename(place)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        while True:
            ready = select.select([listener, *kernels], [], [], 0.1)[0]
            for connection in ready:
                if connection is not listener:
                    os.kill(kernels[connection], signal.SIGKILL)  # the one who asked for it is gone
                    continue
                asked, _ = listener.accept()
                data, files, _flags, _from = socket.recv_fds(asked, SIZE, 3)
                child = os.fork()
                if child == 0:
                    listener.close()
                    become(json.loads(data), files)
                kernels[asked] = child
                asked.sendall(f"{child}\n".encode())
                for file in files:
                    os.close(file)
            for connection, child in list(kernels.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    with contextlib.suppress(OSError):
                        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                    connection.close()
                    del kernels[connection]


def become(asked, files):
    """Turn this process into the kernel that was asked for: its files, folder, environment and arguments."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # The kernel ends with its parent, which is this server now.
    sys.argv = ["ipykernel_launcher", *asked["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"]
    del sys.path[0]  # the folder of this file
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
    sys.exit()


def start(place, arguments):
    """Ask for a kernel, hand on signals to it, wait until it ends; return its exit code."""
    asked = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
        answer = connection.makefile()
        child = int(answer.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, _frame: os.kill(child, n))
        return int(answer.readline() or 1)


if __name__ == "__main__":
    sys.exit({"serve": serve, "start": start}[sys.argv[1]](sys.argv[2], sys.argv[3:]))
