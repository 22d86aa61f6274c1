"""A trained model is an ordinary one: pipelines, `transformers serve` and lm-eval take it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from trained_model import trained_model

QUESTIONS = [(one, other) for one in range(2, 6) for other in range(3, 8)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A model that has learned sums of one digit, as a run saves it."""
    folder = tmp_path_factory.mktemp("model")
    model, renderer = trained_model()
    model.save_pretrained(folder)
    renderer.tokenizer.save_pretrained(folder)
    return folder


def test_a_pipeline_answers_messages(saved):
    from transformers import pipeline

    talk = pipeline("text-generation", model=str(saved), device="cpu")
    asked = [{"role": "user", "content": "What is 2 plus 3?"}]
    (done,) = talk(asked, max_new_tokens=8, do_sample=False, skip_special_tokens=False)
    reply = done["generated_text"][-1]
    assert reply["role"] == "assistant"
    assert reply["content"].startswith("<|python_start|>2+3<|python_end|>")


def test_lm_eval_scores_it_with_its_hf_model(saved, tmp_path):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    def code(text: object) -> str:
        return f"<|python_start|>{text}<|python_end|>"

    with (tmp_path / "sums.jsonl").open("w") as file:
        for one, other in QUESTIONS:
            choices = [f"{one}+{other}", f"{one}-{other}", f"{other}+{one + 1}", f"{one}"]
            row = {"question": f"What is {one} plus {other}?", "choices": list(map(code, choices))}
            file.write(json.dumps(row) + "\n")
    task = {
        "task": "sums",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "sums.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": 0,
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(task))
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(saved), device="cpu", batch_size=4, dtype="float32"),
        tasks=["sums"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    scored = found["results"]["sums"]
    assert found["n-samples"]["sums"]["effective"] == len(QUESTIONS)
    assert scored["acc,none"] > 0.9, scored


def test_transformers_serves_chat_completions_of_it(saved, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(saved)]
    words += ["--device=cpu", "--host=127.0.0.1", f"--port={port}"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    try:
        asked = {
            "model": str(saved),
            "messages": [{"role": "user", "content": "What is 2 plus 3?"}],
            "max_tokens": 8,
            "temperature": 0,
        }
        reply = _posted(f"http://127.0.0.1:{port}", asked, server, tmp_path / "log")
    finally:
        server.terminate()
        server.wait(20)
    # The library leaves special tokens out.
    assert reply["choices"][0]["message"]["content"].startswith("2+3")
    assert reply["choices"][0]["message"]["role"] == "assistant"


def _posted(
    url: str, asked: dict[str, object], server: subprocess.Popen[bytes], log: Path
) -> dict[str, object]:
    """The answer of a server that may still be starting."""
    data, headers = json.dumps(asked).encode(), {"Content-Type": "application/json"}
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                break
        except (urllib.error.URLError, OSError):
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.5)
    request = urllib.request.Request(f"{url}/v1/chat/completions", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.read().decode()}\n{log.read_text()}") from error
