"""The server does what its description says: schemathesis makes requests from it and checks every answer.

INKPOOL_SEED takes another path through the examples, INKPOOL_EXAMPLES more of them.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

# Bound on the whole of a run; it takes about a minute on one core.
PATIENCE_S = 300
# Streams of events do not end, and schemathesis reads answers to their end.
ENDLESS = ["watch_all", "watch_job"]
# These end the login by which all the others are asked.
LAST = ["log_out", "revoke_token", "revoke_session"]
# Well formed, and refused for what it holds: no image, too large, a name that is taken, a password that is too easy.
UNDERSTOOD = ["2xx", "3xx", 401, 403, 404, 409, 412, 413, 415, 422, 429]
# A token that expires before it is made, and lists of names with commas between: no schema says what may stand there.
BEYOND_SCHEMAS = ["create_token", "list_images", "download_archive"]
# What violates the description is refused, and a number that is too large is refused as such.
REFUSED = [400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429, 431]
# Without the header that says which version of tus is spoken, the protocol asks for 412.
MISSING = [400, 401, 403, 406, 412, 415, 422]
# It takes no body and no query, so that all that can be wrong is a header; and headers that mean nothing here are let be.
LET_BE = ["begin_tus_upload"]
SETTINGS = {
    "INKPOOL_AUTH__MODE": "accounts",
    "INKPOOL_ADMIN__USERNAME": "root",
    "INKPOOL_ADMIN__PASSWORD": "seven crooked lamps",
    "INKPOOL_AUTH__ARGON2_MEMORY_KIB": "64",
    # Everything comes from one address.
    "INKPOOL_AUTH__TRIES_PER_ADDRESS": "1000000",
    # A number of slots that is asked for by chance is started.
    "INKPOOL_SLOTS__COUNT_MAX": "2",
}


class Server:
    """The program on a free port."""

    def __init__(self, data: Path):
        self.program = os.environ.get("INKPOOL_BIN", "target/debug/inkpool")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("INKPOOL_") or "__" in k}
        self.environment = inherited | SETTINGS
        self.data = data
        self.process = subprocess.Popen(
            [self.program, "serve", "--listen", "127.0.0.1:0", "--data", str(data), "--slots", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        self.log: list[str] = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        self.url = next((line.split()[-1] for line in self.process.stdout if "http://" in line), None)
        assert self.url, f"the server did not start: {''.join(self.log)}"

    def token(self) -> str:
        command = [self.program, "admin", "--data", str(self.data), "token", "create", "--user", "root", "--name", "x"]
        command += ["--scopes", "read,write,admin"]
        return subprocess.run(command, env=self.environment, check=True, text=True, capture_output=True).stdout.strip()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path / "data")
    yield started
    started.stop()
    faults = [line for line in started.log if '"ERROR"' in line or "panic" in line]
    assert faults == []


def run(server: Server, folder: Path, *options: str):
    config = folder / "schemathesis.toml"
    config.write_text(
        f'hooks = "{Path(__file__).parent / "hooks.py"}"\n'
        f'[auth.openapi.token]\nbearer = "{server.token()}"\n'
        f"[checks.positive_data_acceptance]\nexpected-statuses = {UNDERSTOOD}\n"
        f"[checks.negative_data_rejection]\nexpected-statuses = {REFUSED}\n"
        f"[checks.missing_required_header]\nexpected-statuses = {MISSING}\n"
        + "".join(
            f'[[operations]]\ninclude-operation-id = "{name}"\n'
            f"[operations.checks.negative_data_rejection]\nexpected-statuses = {['2xx', *REFUSED]}\n"
            for name in LET_BE
        )
        + "".join(
            f'[[operations]]\ninclude-operation-id = "{name}"\n'
            f"[operations.checks.positive_data_acceptance]\nexpected-statuses = {[*UNDERSTOOD, 400]}\n"
            for name in BEYOND_SCHEMAS
        )
    )
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config), "run"]
    command += [f"{server.url}/api/openapi.json", "--checks", "all", "--continue-on-failure", "--no-color"]
    command += ["--suppress-health-check", "all", "--request-timeout", "30"]
    command += ["--seed", os.environ.get("INKPOOL_SEED", "1"), "--max-examples", os.environ.get("INKPOOL_EXAMPLES", "8")]
    done = subprocess.run([*command, *options], cwd=folder, text=True, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    return done.stdout


def test_every_answer_is_one_of_the_description(server, tmp_path):
    excluded = [option for name in ENDLESS + LAST for option in ("--exclude-operation-id", name)]
    said = run(server, tmp_path, *excluded)
    tested = re.search(r"Tested: (\d+)", said)
    assert tested and int(tested[1]) > 30, said[-2_000:]


def test_what_ends_a_login_is_one_of_the_description(server, tmp_path):
    included = [option for name in LAST for option in ("--include-operation-id", name)]
    run(server, tmp_path, *included, "--phases", "examples,coverage,fuzzing")
