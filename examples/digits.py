"""From a folder of images to a served champion: scikit-learn's own 8×8 digits, in place of MNIST.

python examples/digits.py [FOLDER]      writes the images below FOLDER, then walks through the commands

Each command is shown before it is run, as it could be typed. Nothing is downloaded.
"""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import Request, urlopen

import cyclopts
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ["--recipe", "fast", "--epochs", "30"]  # small data need more epochs
GATE = ["--floor", "0.9", "--margin", "0.03", "--recall-margin", "0.1"]  # so small a holdout cannot rule out less
MODEL = "models:/digits-mlp@champion"


def write(folder: Path, images: np.ndarray, labels: Sequence[int]) -> None:
    """Write each image (8, 8), 0 to 16, as a PNG into the folder of its class."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(folder / str(label) / f"{number:04}.png")


def run(*words: str | Path) -> None:
    """Show a command, then run it."""
    print(f"\n$ python {shlex.join(map(str, words))}", flush=True)
    subprocess.run([sys.executable, ROOT / words[0], *words[1:]], check=True)


def serve_and_ask(image: Path) -> str:
    """Serve the champion for a moment, and ask it for the class of `image`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    print(f"\n$ python -m serving --model {MODEL} --port {port} &", flush=True)
    server = subprocess.Popen([sys.executable, "-m", "serving", "--model", MODEL, "--port", str(port)], cwd=ROOT)
    request = Request(f"http://127.0.0.1:{port}/predict", image.read_bytes(), {"Content-Type": "image/png"})
    deadline = time.monotonic() + 120
    try:
        while True:
            try:
                with urlopen(request, timeout=10) as response:
                    answer: str = response.read().decode()
                break
            except OSError:  # it is not up yet, or has no time
                if server.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    finally:
        server.terminate()
        server.wait()
    print(f"$ curl -F image=@{image} http://127.0.0.1:{port}/predict\n{answer}")
    return answer


def main(folder: Path = Path("digits-example")) -> None:
    """Do all of it in `folder`."""
    digits = load_digits()
    write(folder / "digits", digits.images[:1500], digits.target[:1500])
    write(folder / "more", digits.images[1500:1700], digits.target[1500:1700])
    write(folder / "new", digits.images[1700:], digits.target[1700:])
    print(f"{folder}/digits holds 1,500 images in ten folders, one per class; more the next 200; new the 97 to predict")

    run("flows/train_flow.py", "--dataset", folder / "digits", *RECIPE)
    run("flows/retrain_flow.py", "--dataset", folder / "digits", "--extra", folder / "more", *RECIPE, *GATE)
    run("flows/champion.py", "history", "--dataset", "digits")
    run("flows/predict_flow.py", folder / "new", "--model", MODEL, "--out", folder / "predictions.csv")
    serve_and_ask(min((folder / "new").rglob("*.png")))


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    cyclopts.run(main)
