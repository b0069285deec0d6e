"""Run the demo's Airflow for the browser, in the foreground until Ctrl-C."""

from __future__ import annotations

import sys

from demo import demo_env, stop_on_signals


def main() -> int:
    """Start Airflow, print where it is, wait for a signal, stop it."""
    stop_on_signals()
    try:
        print("Starting Airflow (about 20 seconds) ...", flush=True)
        with demo_env() as env:
            print(f"Airflow is ready at {env.url}\n  user      {env.username}\n  password  {env.password}")
            print(f"  logs      {env.paths.logs}\nCtrl-C stops it.", flush=True)
            ended = env.wait_ended()
            print(f"{ended} has ended; see {env.log_file(ended)}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        print("Stopped.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
