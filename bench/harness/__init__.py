"""What bench.py, ab.py, engine.py and soak.py share. Each module is one topic; imports point down only:

session                   what the two command lines have in common
report, plot, targets     results -> text, SVG, verdicts; no measuring
measure                   servers x workloads -> results: start, check, interleaved rounds
processes, load, client   one server process, one wrk run, one checked exchange
servers, workloads        the two tables: whom we start and how, what they are asked
environment               what has to be on the machine before: venv, floor, tools

engine.py only, on top of `measure`:
latency, throughput, holding, drain   scenarios: a server's name -> a row of figures
scenario                  what a scenario, a row and a bar are
fleet                     servers with more workers, threads and connections
wire                      responses as they come in, for clients that are driven by events
dribblers                 a program: clients that never finish

soak.py only: soak_clients (good and bad ones), ledger (what became of each exchange), growth (of memory)
"""
