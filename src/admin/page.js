
"use strict";
const place = (id) => document.getElementById(id);
const make = (name, text) => {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
};
const show = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const age = (seconds) => {
  const whole = Math.floor(seconds);
  if (seconds < 60) return seconds.toFixed(1) + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
  if (whole < 86400) return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
  return Math.floor(whole / 86400) + " d " + Math.floor((whole % 86400) / 3600) + " h";
};
const memory = (bytes) => bytes === null ? "–" : (bytes / 1048576).toFixed(1) + " MiB";
const count = (number) => number.toLocaleString("en");

let before = null;
const rate = (requests, earlier, seconds) =>
  earlier === undefined || seconds <= 0 ? "–" : count(Math.round(Math.max(0, requests - earlier) / seconds));

const row = (worker, seconds) => {
  const earlier = before && before.workers.find((other) => other.pid === worker.pid);
  const request = worker.current_request;
  const cells = [
    worker.pid, worker.state, age(worker.age_seconds), count(worker.requests),
    rate(worker.requests, earlier ? earlier.requests : undefined, seconds), memory(worker.rss_bytes),
    count(worker.connections.total), worker.threads_busy + "/" + worker.threads,
    request ? request.method + " " + request.path : "", request ? age(request.age_seconds) : "",
  ];
  const made = document.createElement("tr");
  const name = make("th", worker.number);
  name.scope = "row";
  made.append(name, ...cells.map((cell) => make("td", cell)));
  made.cells[9].title = made.cells[9].textContent;
  return made;
};

const draw = (now) => {
  const seconds = before ? now.uptime_seconds - before.uptime_seconds : 0;
  const { totals } = now;
  const figures = {
    requests: count(totals.requests), rate: rate(totals.requests, before ? before.totals.requests : undefined, seconds),
    errors: count(totals.responses_5xx), refused: count(totals.refused), timeouts: count(totals.timeouts),
    connections: count(totals.connections.total), queued: count(totals.connections.queued),
    threads: totals.connections.in_application + "/" + totals.threads, uptime: age(now.uptime_seconds),
    workers: now.workers_ready + "/" + now.workers_wanted, generation: String(now.generation),
  };
  for (const [name, text] of Object.entries(figures)) show(place("total-" + name), text);
  show(place("state"), now.state + (now.reloading ? ", reloading" : "") + (now.ready ? "" : ", not ready: " + now.reason));
  place("state").className = now.ready ? "good" : "bad";
  place("workers").replaceChildren(...now.workers.map((worker) => row(worker, seconds)));
  before = now;
};

const look = async () => {
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error("status " + answer.status);
    draw(await answer.json());
  } catch (error) {
    show(place("state"), "no answer from the server");
    place("state").className = "bad";
  }
  setTimeout(look, 1000);
};
look();
