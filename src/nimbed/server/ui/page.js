// The whole page: what is served, its latest minute, and a place to try it. Texts become text nodes, never markup.
"use strict";

const $ = (id) => document.getElementById(id);
const POLL_MS = 1000;
const RETRY_MS = 3000;
const MOST_TEXTS = 40;
const EXAMPLE = {
  texts: ["A cat sat on the mat.", "A kitten is resting on a rug.", "The dog chased a ball in the park.",
    "Consumer prices rose by two percent in May.", "Inflation went up slightly last spring.",
    "How do I reset my password?", "Steps to recover access to an account."],
  query: "How can I get back into my account?",
  passages: ["Consumer prices rose by two percent in May.", "To reset your password, follow the link in the e-mail.",
    "Accounts are locked after five failed attempts to sign in.", "Our offices are closed on public holidays.",
    "Ask support to recover an account whose e-mail address has changed.", "The password must have twelve characters."],
};

let key = ""; // in memory alone
let status = null;
let asked = []; // the requests of what was last done: {path, body}
let shownModels = "";
const preferred = {}; // the model that was chosen, by task

// Elements

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}
const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function show(id, shown) {
  $(id).hidden = !shown;
}

// Numbers

function number(value, digits = 3) {
  if (value == null) return "–";
  if (value < 0) return `−${number(-value, digits)}`;
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (value >= 10 ** digits) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}
const fixed = (value, places) => value.toFixed(places).replace(/^-(?!0\.?0*$)/, "−").replace("-", "");
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const share = (part, whole) => (whole ? (100 * part) / whole : null);

function bytes(value) {
  const units = ["B", "kB", "MB", "GB"];
  let at = 0;
  for (; value >= 1000 && at < 3; at++) value /= 1000;
  return `${number(value)} ${units[at]}`;
}

function duration(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${seconds} s`;
}

// The server

class Refused extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

async function ask(path, body) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const options = { headers, cache: "no-store" };
  if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("The server does not answer.", 0);
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok && said) return { said, truncated: Number(answer.headers.get("x-truncated-texts") ?? 0) };
  const message = said?.error?.message ?? said?.error ?? said?.message ?? "no reason was given";
  const hint = answer.status === 429 ? " Try again in a moment." : "";
  throw new Refused(`${message} (status ${answer.status}).${hint}`, answer.status);
}

async function poll() {
  let wait = POLL_MS;
  if (!document.hidden) {
    try {
      status = (await ask("ui/status")).said;
      render();
    } catch (error) {
      if (error.code === 401) return lock();
      wait = RETRY_MS;
      trouble(error);
    }
  }
  setTimeout(poll, wait);
}

function trouble(error) {
  state("down", error.code ? "In trouble" : "Not reachable");
  show("loading", false);
  const since = status ? " What you see is from before; the page goes on trying." : " The page goes on trying.";
  $("trouble").textContent = `${error.message}${since}`;
  show("trouble", true);
}

function state(kind, text, uptime = "") {
  $("uptime").textContent = uptime;
  const element = $("state");
  element.className = kind;
  if (element.textContent !== text) element.textContent = text;
}

// The key

function lock() {
  const wrong = Boolean(key);
  key = "";
  status = null;
  for (const id of ["loading", "trouble", "overview", "playground", "views", "forget"]) show(id, false);
  state("", "Locked");
  show("door", true);
  $("door-error").textContent = wrong ? "This is not a key of this server." : "";
  $("key").focus();
}

function open(event) {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  show("door", false);
  show("loading", true);
  poll();
}

function forget() {
  location.reload();
}

// What is shown at each poll

function render() {
  const first = $("views").hidden;
  for (const id of ["loading", "trouble", "door"]) show(id, false);
  show("forget", Boolean(key));
  $("version").textContent = status.version;
  const ready = status.state === "ready";
  const uptime = `up ${duration(status.uptime_s)}`;
  state(ready ? "ready" : "down", ready ? "Ready" : "Stopping: it takes no new work", uptime);
  const known = JSON.stringify(status.models.map(({ since_start, ...rest }) => rest));
  if (known !== shownModels) {
    shownModels = known;
    renderModels();
    fillScope();
    fillTask();
  }
  renderCounts();
  renderCharts();
  if (!first) return;
  show("views", true);
  selectTab($(location.hash === "#playground" ? "tab-playground" : "tab-overview"));
}

function fillScope() {
  const before = $("scope").value;
  const all = status.models.length > 1 ? [h("option", { value: "" }, "all")] : [];
  $("scope").replaceChildren(...all, ...status.models.map(({ id }) => h("option", { value: id }, id)));
  if (status.models.some(({ id }) => id === before)) $("scope").value = before;
}

function renderCharts() {
  if ($("overview").hidden) return;
  const { recent, queue } = status;
  const one = recent.models[$("scope").value] ?? recent.all;
  const { minute } = one;
  const points = (values) => values.map((value, at) => [recent.ended_s_ago[at], value, recent.span_s[at]]);
  const hits = one.cache_hits.map((value, at) => share(value, one.cache_lookups[at]));
  const cached = share(minute.cache_hits, minute.cache_lookups);
  const failed = recent.failed ? `, ${plural(recent.failed, "request")} refused or failed` : "";
  $("traffic").textContent = `${plural(minute.requests, "request")} answered${failed}`;
  const drawn = [
    { title: "Latency", unit: "ms", figures: [["P50", minute.p50_ms, "ms", ""], ["P99", minute.p99_ms, "ms", "second"]],
      lines: [points(one.p99_ms), points(one.p50_ms)], tones: ["second", "first"] },
    { title: "Texts answered", unit: "texts / s", figures: [["", minute.texts_per_s, "a second"]],
      lines: [points(one.texts_per_s)], steps: true },
    { title: "Tokens computed", unit: "tokens / s", figures: [["", minute.tokens_per_s, "a second"]],
      lines: [points(one.tokens_per_s)], steps: true },
    { title: "Queue", unit: "requests", whole: true,
      figures: [["", queue.in_flight, `of ${plural(queue.limit, "request")} taken`],
        ["", one.waiting.at(-1) ?? 0, "sequences waiting"]],
      lines: [points(recent.in_flight)], steps: true },
    { title: "Cache hits", unit: "% of texts", most: 100, figures: [["", cached, "% of texts looked up"]],
      lines: [points(hits)] },
  ];
  const cards = $("charts");
  while (cards.children.length < drawn.length) cards.append(h("figure", { class: "chart" }));
  drawn.forEach((chart, at) => renderChart(cards.children[at], chart));
}

function renderChart(card, chart) {
  const figures = chart.figures.map(([name, value, unit, tone]) =>
    h("span", { class: tone == null ? null : `dot ${tone}` }, name && `${name} `, h("b", {}, number(value)), unit));
  const said = chart.figures.map(([name, value, unit]) => `${name} ${number(value)} ${unit}`.trim()).join(", ");
  const drawing = s("svg", { role: "img", "aria-label": `${chart.title} over the last minute: ${said}` });
  card.replaceChildren(h("h3", {}, chart.title), h("div", { class: "figures" }, figures), drawing);
  draw(drawing, chart, drawing.clientWidth || 300, 132);
}

function draw(drawing, { lines, tones = ["first"], unit, most, steps, whole }, width, height) {
  const values = lines.flat().map(([, value]) => value).filter((value) => value != null);
  const { top, step } = scale(most ?? Math.max(0, ...values), whole);
  const labels = Array.from({ length: Math.round(top / step) + 1 }, (_, at) => number(at * step));
  const left = 10 + 7 * Math.max(...labels.map((label) => label.length));
  const [upper, lower] = [20, height - 22];
  const x = (age) => left + (width - left - 2) * (1 - Math.min(60, Math.max(0, age)) / 60);
  const y = (value) => lower - ((lower - upper) * value) / top;
  drawing.append(s("text", { x: 0, y: 8 }, unit));
  labels.forEach((label, at) => drawing.append(
    s("line", { class: "grid", x1: left, x2: width, y1: y(at * step), y2: y(at * step) }),
    s("text", { x: left - 7, y: y(at * step) + 4, "text-anchor": "end" }, label)));
  for (const [age, label, anchor] of [[60, "60 s ago", "start"], [30, "30 s ago", "middle"], [0, "now", "end"]]) {
    drawing.append(s("text", { x: x(age), y: height - 5, "text-anchor": anchor }, label));
  }
  if (!values.some((value) => value > 0)) {
    drawing.append(s("text", { class: "void", x: (left + width) / 2, y: (upper + lower) / 2, "text-anchor": "middle" },
      most ? "no lookups in this minute" : "nothing in this minute"));
    return;
  }
  lines.forEach((points, at) => {
    if (steps) drawing.append(s("path", { class: "area", d: stepped(points, x, y, lower) }));
    drawing.append(s("path", { class: tones[at], d: steps ? stepped(points, x, y) : joined(points, x, y) }));
  });
}

// A top and a step between lines that people count in.
function scale(most, whole) {
  const least = whole ? 1 : 0;
  const rough = Math.max(most, whole ? 2 : 1e-9) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, power * ([1, 2, 5, 10].find((one) => one * power >= rough * 0.999)));
  if (!most) return { top: whole ? 2 : 1, step: whole ? 1 : 0.5 };
  return { top: step * Math.ceil(most / step - 1e-9), step };
}

const at2 = (value) => value.toFixed(1);

// What was the case over a span, as a step; closed down to the axis where that is given.
function stepped(points, x, y, floor) {
  const path = points.map(([age, value, span]) => [x(age + span), x(age), y(value ?? 0)])
    .map(([from, to, height]) => `${at2(from)} ${at2(height)}L${at2(to)} ${at2(height)}`).join("L");
  if (!path) return "";
  const [first, last] = [points[0][0] + points[0][2], points.at(-1)[0]];
  return floor == null ? `M${path}` : `M${at2(x(first))} ${floor}L${path}L${at2(x(last))} ${floor}Z`;
}

// A line through the points that are there; one alone is a short dash.
function joined(points, x, y) {
  let path = "";
  let open = false;
  points.forEach(([age, value], at) => {
    if (value != null) {
      path += `${open ? "L" : "M"}${at2(x(age))} ${at2(y(value))}`;
      if (!open && points[at + 1]?.[1] == null) path += "h2";
    }
    open = value != null;
  });
  return path;
}

// Models

const MEASURES = { mean_cosine: "mean cosine", min_cosine: "worst cosine", top10_agreement: "top-10 agreement",
  rank_correlation: "rank correlation", kendall_tau: "Kendall's tau" };

function renderModels() {
  $("models").replaceChildren(...status.models.map(model));
}

function model({ id, kind, names, info }) {
  const others = names.filter(({ name }) => name !== id);
  const head = h("div", { class: "head" }, h("h3", {}, id), h("span", { class: "tag strong" }, info.precision),
    h("span", { class: "tag" }, info.backend), h("span", { class: "tag" }, kind));
  const facts = [
    ["Files", info.model === id ? null : info.model], ["Revision", info.revision],
    ["Also called", others.map(({ name, role }) => `${name} (${role})`).join(", ")],
    ["Engine", `${info.backend_version}, ${info.instruction_set}, ${plural(info.threads, "thread")}`],
    ["Reads", `up to ${plural(info.max_length, "token")}`],
    ...(kind === "embedder" ? [
      ["Gives", `${plural(info.dim, "dimension")}, ${info.normalize ? "norm 1" : "not normalized"}`],
      ["Pooling", info.pooling], ["Similarity", info.similarity], ["Task", info.task],
    ] : [["Gives", "a score for each pair"]]),
    ...Object.entries(info.prompts).map(([role, text]) => [`Prompt, ${role}`, h("code", {}, text)]),
    ["Prompts", kind === "embedder" && !Object.keys(info.prompts).length ? "none" : null],
    ["Fingerprint", h("code", {}, info.fingerprint)],
  ];
  const why = Object.entries(info.reasons).map(([choice, reason]) => [choice.replaceAll("_", " "), reason]);
  return h("article", { class: "model" }, head, h("div", { class: "parts" },
    h("div", {}, h("h4", {}, "What is run"), list(facts)),
    h("div", {}, h("h4", {}, "Why so"), list(why)),
    h("div", {}, h("h4", {}, "Quality against fp32"), quality(info),
      h("h4", {}, "Since the start"), h("p", { class: "muted", "data-counts": id }))));
}

function list(rows) {
  const shown = rows.filter(([, value]) => value != null && value !== "");
  return h("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function quality({ quality: found, precision }) {
  if (!found?.thresholds) {
    return h("p", { class: "muted" },
      precision === "fp32" ? "This is fp32: nothing was quantized." : "Not measured: nimbed did not quantize it.");
  }
  const rows = Object.entries(found.thresholds).map(([name, least]) => {
    const used = Math.max(0, (1 - found[name]) / (1 - least));
    const bar = s("svg", { class: used > 1 ? "used over" : "used", role: "img",
      "aria-label": `${Math.round(100 * used)} % of the loss that is allowed` },
    s("rect", { width: "100%", height: 6, rx: 3 }),
    s("rect", { width: `${Math.min(100, 100 * used)}%`, height: 6, rx: 3 }));
    return h("tr", {}, h("th", { scope: "row" }, MEASURES[name] ?? name.replaceAll("_", " ")),
      h("td", {}, found[name].toFixed(4)), h("td", { class: "muted" }, String(least)), h("td", {}, bar));
  });
  const heads = ["", "measured", "at least", "loss used"].map((text) => h("th", { scope: "col" }, text));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Quality against fp32" },
    h("table", { class: "quality" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)),
    h("p", { class: "muted" }, `On ${plural(found.texts, "held-out text")}. The bars show how much of the loss that is ` +
      "allowed was used."));
}

function renderCounts() {
  for (const { id, since_start: done } of status.models) {
    const place = [...document.querySelectorAll("[data-counts]")].find((one) => one.dataset.counts === id);
    const cut = done.truncated ? `, ${number(done.truncated)} of them cut` : "";
    const { cache } = done;
    const held = cache && `; the cache holds ${plural(cache.entries, "vector")} (${bytes(cache.bytes)} of ` +
      `${bytes(cache.limit_bytes)})${cache.shared ? ", behind it a tier that is shared" : ""}`;
    place.textContent = `${plural(done.texts, "text")}${cut}, ${plural(done.tokens, "token")} computed in ` +
      `${plural(done.batches, "batch", "batches")}${held ?? ""}`;
  }
}

// Playground: the form

const task = () => document.querySelector("input[name=task]:checked").value;
const chosen = () => status.models.find(({ id }) => id === $("model").value);
const lines = (id) => $(id).value.split("\n").map((line) => line.trim()).filter(Boolean);

// The same network in another precision.
function sibling(model) {
  return status.models.find(({ id, kind, info }) => id !== model.id && kind === model.kind &&
    info.weights === model.info.weights && info.precision !== model.info.precision);
}

function fillTask() {
  const embeds = status.models.filter(({ kind }) => kind === "embedder");
  const ranks = [...status.models.filter(({ kind }) => kind === "reranker"), ...embeds];
  const [similarity, ranking] = document.querySelectorAll("input[name=task]");
  similarity.disabled = !embeds.length;
  if (!embeds.length) ranking.checked = true;
  $("lacking").textContent = "No embedding model is served, so there are no vectors to compare: rerankers only rank.";
  show("lacking", !embeds.length);
  for (const part of document.querySelectorAll("[data-task]")) part.hidden = part.dataset.task !== task();
  const before = preferred[task()];
  const able = task() === "ranking" ? ranks : embeds;
  $("model").replaceChildren(...able.map(({ id, info }) => h("option", { value: id }, `${id} (${info.precision})`)));
  if (able.some(({ id }) => id === before)) $("model").value = before;
  $("run").textContent = task() === "ranking" ? "Rank" : "Compare";
  fillBeside();
}

function fillBeside() {
  const other = sibling(chosen());
  show("beside", Boolean(other));
  if (other) $("beside-name").textContent = `Beside ${other.info.precision} of the same model (${other.id})`;
}

async function run(event) {
  event?.preventDefault();
  if ($("run").disabled) return;
  const kind = task();
  const items = lines(kind === "ranking" ? "passages" : "texts");
  if (kind === "ranking" && !$("query").value.trim()) return say("Write a query first.", $("query"));
  if (items.length < (kind === "ranking" ? 1 : 2)) {
    return say(kind === "ranking" ? "Write at least one passage." : "Write at least two texts, one a line.",
      $(kind === "ranking" ? "passages" : "texts"));
  }
  if (items.length > MOST_TEXTS) {
    return say(`${MOST_TEXTS} lines at most fit here; these are ${items.length}.`, $(kind === "ranking" ? "passages" : "texts"));
  }
  const models = [chosen(), $("both").checked ? sibling(chosen()) : null].filter(Boolean);
  asked = [];
  busy(true);
  try {
    const started = performance.now();
    const found = [];
    for (const model of models) found.push(await (kind === "ranking" ? ranked(model, items) : compared(model, items)));
    const ms = performance.now() - started;
    const result = kind === "ranking" ? ranking(models, items, found) : similarity(models, items, found);
    $("result").replaceChildren(...result.shown);
    say([result.said, timing(found, ms)].join(" "));
    renderCode();
  } catch (error) {
    $("result").replaceChildren();
    show("code", false);
    say(error.message, null, true);
  } finally {
    busy(false);
  }
}

function busy(is) {
  $("run").disabled = is;
  $("result").parentElement.classList.toggle("busy", is);
}

function say(text, focused, isBad = Boolean(focused)) {
  $("said").textContent = text;
  $("said").classList.toggle("bad", isBad);
  focused?.focus();
}

function timing(found, ms) {
  const tokens = found.reduce((sum, one) => sum + one.tokens, 0);
  const cut = found.reduce((sum, one) => sum + one.truncated, 0);
  const lost = cut ? ` ${plural(cut, "text")} longer than the model reads: cut.` : "";
  return `${plural(tokens, "token")} in ${number(ms)} ms, there and back.${lost}`;
}

// Playground: what is asked

async function post(path, body) {
  asked.push({ path, body });
  return ask(path, body);
}

async function vectors(model, input, role) {
  const { said, truncated } = await post("v1/embeddings", { model: model.id, input, input_type: role });
  return { rows: said.data.map(({ embedding }) => unit(embedding)), tokens: said.usage.total_tokens, truncated };
}

function unit(row) {
  const norm = Math.hypot(...row) || 1;
  return row.map((value) => value / norm);
}
const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);

async function compared(model, texts) {
  const { rows, ...rest } = await vectors(model, texts, $("role").value);
  return { matrix: rows.map((row) => rows.map((other) => dot(row, other))), ...rest };
}

// Scores in the order of the passages, whoever gives them.
async function ranked(model, documents) {
  const query = $("query").value.trim();
  if (model.kind === "reranker") {
    const { said, truncated } = await post("v1/rerank", { model: model.id, query, documents });
    const scores = [];
    for (const { index, relevance_score: score } of said.results) scores[index] = score;
    return { scores, tokens: said.usage.total_tokens, truncated };
  }
  const one = await vectors(model, [query], "query");
  const all = await vectors(model, documents, "document");
  const scores = all.rows.map((row) => dot(one.rows[0], row));
  return { scores, tokens: one.tokens + all.tokens, truncated: one.truncated + all.truncated };
}

// Places from the highest score down, and for each item its rank from 1.
const order = (scores) => scores.map((_, at) => at).sort((a, b) => scores[b] - scores[a] || a - b);
function ranksOf(scores) {
  const ranks = [];
  order(scores).forEach((at, rank) => { ranks[at] = rank + 1; });
  return ranks;
}

// Playground: similarity

function similarity(models, texts, found) {
  const matrices = found.map(({ matrix }) => matrix);
  const others = matrices.flatMap((matrix) => matrix.flatMap((row, at) => row.filter((_, to) => to !== at)));
  const low = Math.max(-1, Math.floor(10 * Math.min(...others)) / 10);
  const maps = h("div", { class: "maps" }, models.map((model, at) => heat(model, texts, matrices[at], low)));
  const legend = h("ol", { class: "legend" }, texts.map((text, at) =>
    h("li", {}, h("span", {}, String(at + 1)), h("span", {}, text))));
  const said = models.length > 1 ? difference(models, matrices) : nearest(matrices[0]);
  const scaled = h("div", { class: "scale" }, h("span", {}, "cosine"), number(low), gradient(), "1");
  return { said, shown: [maps, scaled, legend] };
}

function heat(model, texts, matrix, low) {
  const head = h("tr", {}, h("th", {}), texts.map((_, at) => h("th", { scope: "col" }, String(at + 1))));
  const rows = matrix.map((row, at) => h("tr", {}, h("th", { scope: "row" }, String(at + 1)), row.map((value, to) => {
    const level = Math.round(Math.min(100, Math.max(0, (100 * (value - low)) / (1 - low))));
    const cell = h("td", { title: `${texts[at]}\n${texts[to]}` }, fixed(value, 2));
    cell.style.setProperty("--heat", level);
    return cell;
  })));
  const table = h("table", { class: texts.length > 10 ? "heat many" : "heat" },
    h("thead", {}, head), h("tbody", {}, rows));
  return h("div", { class: "map" }, h("p", { class: "caption" }, h("b", {}, model.info.precision), ` ${model.id}`),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Cosines by ${model.id}` }, table));
}

function gradient() {
  const shades = s("linearGradient", { id: "shades" }, s("stop", { offset: 0 }), s("stop", { offset: 1 }));
  return s("svg", { "aria-hidden": "true" }, s("defs", {}, shades),
    s("rect", { width: "100%", height: "100%", fill: "url(#shades)" }));
}

function nearest(matrix) {
  let best = [0, 1];
  matrix.forEach((row, at) => row.forEach((value, to) => {
    if (to > at && value > matrix[best[0]][best[1]]) best = [at, to];
  }));
  const [one, other] = best;
  return `Texts ${one + 1} and ${other + 1} are nearest (${fixed(matrix[one][other], 3)}).`;
}

function difference([one, other], [a, b]) {
  let most = 0;
  let same = 0;
  a.forEach((row, at) => {
    row.forEach((value, to) => { most = Math.max(most, Math.abs(value - b[at][to])); });
    const of = (matrix) => order(matrix[at].map((value, to) => (to === at ? Infinity : value))).join();
    same += of(a) === of(b);
  });
  return `${one.info.precision} and ${other.info.precision} differ by ${number(most, 2)} at most; for ${same} of ` +
    `${plural(a.length, "text")} they put the others in the same order.`;
}

// Playground: ranking

function ranking(models, passages, found) {
  const all = found.map(({ scores }) => scores);
  const places = all.map(ranksOf);
  const least = Math.min(0, ...all.flat());
  const most = Math.max(...all.flat());
  const two = models.length > 1;
  const heads = two
    ? [models[0].info.precision, "Passage", "Score", "", models[1].info.precision, "Score", "Moved"]
    : ["Rank", "Passage", "Score", ""];
  const columns = ["number", "text", "number", "bar-cell", "number", "number second", "number"];
  const rows = order(all[0]).map((at) => h("tr", {},
    h("td", { class: "number" }, String(places[0][at])), h("td", { class: "text" }, passages[at]),
    h("td", { class: "number" }, fixed(all[0][at], 3)),
    h("td", { class: "bar-cell" }, bar((all[0][at] - least) / (most - least || 1))),
    two ? [h("td", { class: "number" }, String(places[1][at])), h("td", { class: "number second" }, fixed(all[1][at], 3)),
      moved(places[1][at] - places[0][at])] : null));
  const table = h("table", { class: "ranks" }, h("thead", {}, h("tr", {}, heads.map((text, at) =>
    h("th", { scope: "col", class: columns[at] }, text)))), h("tbody", {}, rows));
  const changed = two ? places[0].filter((rank, at) => rank !== places[1][at]).length : 0;
  const apart = two ? Math.max(...all[0].map((score, at) => Math.abs(score - all[1][at]))) : 0;
  const said = two
    ? `${changed ? plural(changed, "passage") : "No passage"} of ${passages.length} changed its rank between ` +
      `${models[0].info.precision} and ${models[1].info.precision}; scores differ by ${number(apart, 2)} at most.`
    : `${plural(passages.length, "passage")}, best first.`;
  return { said, shown: [h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Ranking" }, table)] };
}

function bar(level) {
  const width = `${(100 * Math.max(0, Math.min(1, level))).toFixed(1)}%`;
  return s("svg", { "aria-hidden": "true" }, s("rect", { width: "100%", height: 8, rx: 4 }),
    s("rect", { width, height: 8, rx: 4 }));
}

function moved(by) {
  if (!by) return h("td", { class: "number muted" }, "same");
  return h("td", { class: "number moved" }, `${by < 0 ? "▲" : "▼"} ${Math.abs(by)}`);
}

// The same from elsewhere

const address = (path) => new URL(path, document.baseURI).href;
const json = (body) => JSON.stringify(body, null, 2);

const WRITERS = {
  curl: (requests) => requests.map(({ path, body }) => [
    `curl '${address(path)}'`, "-H 'Content-Type: application/json'", ...(key ? ['-H "Authorization: Bearer $NIMBED_API_KEY"'] : []), `-d '${json(body).replaceAll("'", "'\\''")}'`]
    .join(" \\\n  ")).join("\n\n"),

  python: (requests) => [`${key ? "import os\n\n" : ""}import requests`,
    ...(key ? ['headers = {"Authorization": f"Bearer {os.environ[\'NIMBED_API_KEY\']}"}'] : []),
    ...requests.map(({ path, body }) => `answer = requests.post("${address(path)}", ${key ? "headers=headers, " : ""}` +
      `json=${json(body)})\nanswer.raise_for_status()\nprint(answer.json())`)].join("\n\n"),

  javascript: (requests) => ["const headers = {\"Content-Type\": \"application/json\"" +
      `${key ? ", Authorization: `Bearer ${process.env.NIMBED_API_KEY}`" : ""}};`,
    ...requests.map(({ path, body }, at) => `${at ? "" : "let "}answer = await fetch("${address(path)}", {\n` +
      `method: "POST", headers, body: JSON.stringify(${json(body)}),\n});\nconsole.log(await answer.json());`),
  ].join("\n\n"),
};

function renderCode() {
  const language = document.querySelector("#languages [aria-selected=true]").id.slice("tab-".length);
  $("snippet").textContent = WRITERS[language](asked);
  $("snippet").setAttribute("aria-labelledby", `tab-${language}`);
  show("code", true);
}

async function copy() {
  const text = $("snippet").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // beyond loopback without TLS there is no clipboard: select it instead
    getSelection().selectAllChildren($("snippet"));
    if (!document.execCommand("copy")) return;
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

// Tabs and theme

function selectTab(tab, focused = false) {
  for (const one of tab.parentElement.children) {
    one.setAttribute("aria-selected", String(one === tab));
    one.tabIndex = one === tab ? 0 : -1;
    if (tab.parentElement.id === "views") show(one.getAttribute("aria-controls"), one === tab);
  }
  if (focused) tab.focus();
  if (tab.parentElement.id === "languages") return asked.length ? renderCode() : undefined;
  history.replaceState(null, "", tab.id === "tab-playground" ? "#playground" : "#overview");
  return renderCharts();
}

function tabs(id) {
  const buttons = [...$(id).children];
  for (const button of buttons) button.addEventListener("click", () => selectTab(button));
  $(id).addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    selectTab(buttons.at(to % buttons.length), true);
  });
}

const THEMES = ["auto", "light", "dark"];
function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % THEMES.length];
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
}

function begin() {
  $("texts").value = EXAMPLE.texts.join("\n");
  $("query").value = EXAMPLE.query;
  $("passages").value = EXAMPLE.passages.join("\n");
  tabs("views");
  tabs("languages");
  $("theme").addEventListener("click", nextTheme);
  $("forget").addEventListener("click", forget);
  $("door").addEventListener("submit", open);
  $("scope").addEventListener("change", renderCharts);
  $("model").addEventListener("change", () => {
    preferred[task()] = $("model").value;
    fillBeside();
  });
  for (const one of document.querySelectorAll("input[name=task]")) one.addEventListener("change", fillTask);
  $("ask").addEventListener("submit", run);
  $("copy").addEventListener("click", copy);
  $("ask").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event);
  });
  addEventListener("resize", () => status && renderCharts());
  poll();
}

begin();
