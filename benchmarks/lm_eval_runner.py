"""Run in lm-evaluation-harness' own environment, without this project: one task, one side; prints JSON.

python benchmarks/lm_eval_runner.py MODEL_FOLDER DOCUMENTS.jsonl [ADAPTER_FOLDER]
"""

import json
import sys
import time
from typing import Any

BATCH_SIZE = 16
MAX_TOKENS = 32


def main(model: str, documents: str, adapter: str = "") -> dict[str, Any]:
    """Seconds of generation, and the answers in order of the *documents* (``prompt``, ``answer``)."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    clocks = {"wall_s": time.perf_counter, "cpu_s": time.process_time}
    spent = dict.fromkeys(clocks, 0.0)
    generate_until = HFLM.generate_until

    def timed(*args: Any, **keywords: Any) -> Any:
        started = {name: clock() for name, clock in clocks.items()}
        answers = generate_until(*args, **keywords)
        spent.update({name: clock() - started[name] for name, clock in clocks.items()})
        return answers

    HFLM.generate_until = timed
    task = {
        "task": "shipped_patterns",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": documents}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "max_gen_toks": MAX_TOKENS, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "dtype": "float32"} | ({"peft": adapter} if adapter else {}),
        tasks=[task],
        batch_size=BATCH_SIZE,
        device="cpu",
        apply_chat_template=True,
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"]["shipped_patterns"], key=lambda sample: sample["doc_id"])
    return {"generation": spent, "texts": [sample["resps"][0][0] for sample in samples]}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
