// The endpoint's page: sends images one by one and shows what comes back. Whatever a server or a file says is
// put into the page as text, never as HTML.
"use strict";

const IN_FLIGHT = 4; // requests at a time
const TRIES = 5; // of an image, while the server says that it is busy
const RESTART_S = 10; // until a replica that was lost is replaced
const MOST_LISTED = 500; // entries on the page
const KEY = "brain_ray.key"; // in sessionStorage
const FORM_BYTES = 1000; // what the form around a file adds to it, generously
const SLACK_S = 120; // for slow uploads, on top of the server's own limit
const THUMB = 112; // pixels of a thumbnail's longer side

const $ = (id) => document.getElementById(id);
const entries = []; // as on the page
let model = null; // GET /v1/model
let running = 0;
let opacity = 55; // of the next heat map: as last set, in percent

// --- The server ---

class Problem extends Error {
  constructor(status, code, detail = "", retryAfter = 0) {
    super(detail);
    Object.assign(this, { status, code, detail, retryAfter });
  }
}

function storedKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return storedKey.fallback ?? ""; // storage is switched off: for as long as the page is open
  }
}

function storeKey(key) {
  storedKey.fallback = key;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch { /* see above */ }
  $("forget").hidden = !key;
}

/** Fetch, with the key; throws a Problem for every answer that is none. Status 0: no answer at all. */
async function ask(path, options = {}) {
  const key = storedKey();
  const headers = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const seconds = (model?.limits.timeout_s ?? 30) + SLACK_S;
  let response;
  try {
    const signal = AbortSignal.timeout(seconds * 1000);
    response = await fetch(path, { ...options, headers, credentials: "same-origin", signal });
  } catch (error) {
    if (error.name === "TimeoutError") throw new Problem(504, "timeout", `nothing came within ${seconds} s`);
    throw new Problem(0, "unreachable");
  }
  if (response.ok) return response;
  let body = {};
  try {
    body = await response.json();
  } catch { /* a proxy's page, say */ }
  const detail = typeof body.detail === "string" ? body.detail : "";
  const problem = new Problem(response.status, String(body.code ?? ""), detail, waitOf(response));
  problem.body = body.code ? body : undefined;
  problem.key = key;
  throw problem;
}

/** Seconds that an answer tells to wait, 1..60. */
function waitOf(response) {
  const header = response.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(60, Math.max(1, Math.ceil(seconds))) : 2;
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

async function loadModel() {
  $("trouble").hidden = true;
  for (let attempt = 1; !model; attempt++) {
    try {
      model = await (await ask("v1/model")).json();
    } catch (error) {
      if (error.status === 401) return wantKey(error);
      if (error.status !== 503 || attempt === TRIES) return showTrouble(error);
      await sleep(error.retryAfter);
    }
  }
  const main = model.models[0];
  $("model").textContent = main ? `Model ${main.id}` : "";
  document.title = main ? `brain_ray: ${main.id}` : "brain_ray";
  const { max_upload_mb: mb, max_pixels: pixels } = model.limits;
  const most = `${count(mb)} MB and ${count(pixels / 1e6)} megapixels`;
  $("limits").textContent = `${$("limits").dataset.formats}, up to ${most} each.`;
  showCards();
  pump();
  showSamples();
}

function showTrouble(error) {
  const problem = error instanceof Problem ? error : new Problem(500, "", String(error));
  const [title, advice] = explain(problem);
  $("trouble").hidden = false;
  $("trouble").querySelector("p").textContent = `${title}. ${advice}`;
}

// --- The key ---

function wantKey(problem) {
  if (problem.key !== storedKey()) return; // an answer to an older key
  const first = $("key").hidden;
  $("key").hidden = false;
  $("key-why").textContent = problem.key
    ? "The server does not know this key. Check it, or ask whoever runs the server."
    : "This server lets in only who has a key. Ask whoever runs it for yours.";
  if (first || document.activeElement === document.body) $("key-field").focus();
  for (const entry of entries) if (entry.state === "held") setState(entry, "held", "Waits for an API key");
}

function useKey(event) {
  event.preventDefault();
  const key = $("key-field").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $("key-why").textContent = "A key has letters, digits and signs only, without blanks.";
    return;
  }
  storeKey(key);
  $("key-field").value = "";
  $("key").hidden = true;
  for (const entry of entries) if (entry.state === "held") setState(entry, "waiting");
  $("browse").focus();
  if (model) {
    pump();
    showSamples();
  } else loadModel();
}

// --- Files in ---

const HIDDEN = /^(\..*|thumbs\.db|desktop\.ini|dicomdir)$/i;

/** Files of what was dropped, folders walked through; entries must be taken before the first await. */
async function filesOf(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const item of found) {
    if (item instanceof File) files.push({ file: item });
    else if (item?.isFile) files.push({ file: await new Promise((ok, no) => item.file(ok, no)) });
    else if (item) files.push(...inOrder(await walk(item)));
  }
  return files;
}

async function walk(folder) {
  const reader = folder.createReader();
  const files = [];
  for (;;) {
    const part = await new Promise((ok, no) => reader.readEntries(ok, no)); // at most a hundred at a time
    if (!part.length) return files;
    for (const item of part) {
      if (files.length > 2 * MOST_LISTED) return files;
      if (item.isDirectory) files.push(...(await walk(item)));
      else if (!HIDDEN.test(item.name)) {
        const file = await new Promise((ok, no) => item.file(ok, no));
        files.push({ file, path: item.fullPath.replace(/^\//, "") });
      }
    }
  }
}

/** A folder's files, slice 2 before slice 10. */
function inOrder(files) {
  return files.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
}

function addFiles(files) {
  const room = MOST_LISTED - entries.length;
  const taken = files.slice(0, Math.max(0, room));
  const left = files.length - taken.length;
  $("left-out").textContent = left
    ? `${left} of ${files.length} files were left out: the page lists at most ${MOST_LISTED}. Clear it, then add them.`
    : "";
  if (!taken.length) return;
  const fresh = taken.map(({ file, path }) => makeEntry(file, path ?? file.name));
  entries.unshift(...fresh);
  $("list").prepend(...fresh.map((entry) => entry.element));
  summarise();
  const top = fresh[0].element.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) $("results").scrollIntoView();
  pump();
}

// --- One image ---

function makeEntry(file, name) {
  const element = $("entry").content.firstElementChild.cloneNode(true);
  const entry = { file, name, element, state: "waiting", tries: 0, part: (of) => element.querySelector(of) };
  element.setAttribute("aria-label", name);
  entry.part(".name").textContent = name;
  entry.part(".remove").setAttribute("aria-label", `Remove ${name}`);
  entry.part(".again").setAttribute("aria-label", `Try ${name} again`);
  entry.part(".copy").setAttribute("aria-label", `Copy JSON of ${name}`);
  entry.part("input").setAttribute("aria-label", `Opacity of the heat map of ${name}`);
  entry.part("input").addEventListener("input", () => setOpacity(entry, entry.part("input").valueAsNumber));
  entry.part(".remove").addEventListener("click", () => remove(entry));
  entry.part(".copy").addEventListener("click", () => copy(entry.part(".copy"), entry.part(".json"), asJson(entry)));
  entry.part(".again").addEventListener("click", () => {
    entry.tries = 0;
    entry.lost = false;
    setState(entry, "waiting");
    entry.part(".remove").focus(); // the button clicked is gone
    pump();
  });
  setState(entry, "waiting");
  return entry;
}

function setState(entry, state, progress = "") {
  entry.state = state;
  entry.element.dataset.state = state;
  entry.element.setAttribute("aria-busy", String(!["done", "failed"].includes(state)));
  entry.part(".progress").textContent = progress || { waiting: "Waiting", sending: "Being read" }[state] || "";
  if (state !== "done") delete entry.element.dataset.decision;
}

function discard(entry) {
  entry.state = "removed";
  entry.element.remove();
  dropPictures(entry);
}

function remove(entry) {
  const at = entries.indexOf(entry);
  entries.splice(at, 1);
  discard(entry);
  summarise();
  const next = entries[Math.min(at, entries.length - 1)];
  (next ? next.part(".remove") : $("browse")).focus();
}

/** Send what waits, a few at a time. */
function pump() {
  if (!model) return;
  while (running < IN_FLIGHT) {
    const entry = entries.find(({ state }) => state === "waiting");
    if (!entry) return;
    running += 1;
    setState(entry, "sending");
    send(entry).finally(() => {
      running -= 1;
      summarise();
      pump();
    });
  }
}

async function send(entry) {
  try {
    checkSize(entry.file);
    if (!entry.pixels) await showThumbnail(entry);
    if (entry.state !== "sending") return;
    const form = new FormData();
    form.append("file", entry.file, entry.file.name);
    const body = await (await ask("v1/explain", { method: "POST", body: form })).json();
    const [answer] = body.results;
    if (answer.status === "error") {
      const { status, code, detail } = answer.problem;
      throw Object.assign(new Problem(status, code, detail), { body: answer.problem });
    }
    if (entry.state === "sending") showAnswer(entry, answer);
  } catch (error) {
    if (entry.state === "removed") return;
    const unread = `an answer that this page cannot read: ${error.message}`;
    const problem = error instanceof Problem ? error : new Problem(500, "", unread);
    if (problem.status === 401) {
      const old = problem.key !== storedKey();
      setState(entry, old ? "waiting" : "held", "Waits for an API key");
      wantKey(problem);
    } else if (problem.code === "queue_full" && entry.tries + 1 < TRIES) {
      tryLater(entry, problem.retryAfter || 2, `The server is busy: try ${entry.tries + 2} of ${TRIES}`);
    } else if (problem.status === 503 && problem.code !== "queue_full" && !entry.lost) {
      // A replica may have died of this image: it is not carried from one to the next.
      entry.lost = true;
      tryLater(entry, Math.max(problem.retryAfter, RESTART_S), "The server starts anew: one more try");
    } else showFailure(entry, problem);
  }
}

function tryLater(entry, seconds, reason) {
  entry.tries += 1;
  setState(entry, "retrying", `${reason} in ${seconds} s`);
  // Not all at the same moment again.
  sleep(seconds + Math.random() / 2).then(() => {
    if (entry.state !== "retrying") return;
    setState(entry, "waiting");
    pump();
  });
}

function checkSize(file) {
  if (file.size === 0) throw new Problem(422, "empty");
  const limit = model.limits.max_upload_mb;
  if (file.size + FORM_BYTES > limit * 1e6) {
    throw new Problem(413, "too_large", `not sent: it has ${count(file.size / 1e6)} MB`);
  }
}

/** Draw the file small, if this browser can read it. What it cannot (TIFF), the server's crop stands in for. */
async function showThumbnail(entry) {
  const url = URL.createObjectURL(entry.file);
  try {
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
    } catch {
      return;
    }
    entry.pixels = image.naturalWidth * image.naturalHeight;
    const limit = model.limits.max_pixels;
    drawThumbnail(entry, image);
    if (entry.pixels > limit) {
      throw new Problem(413, "too_many_pixels", `not sent: it has ${image.naturalWidth} × ${image.naturalHeight} pixels`);
    }
  } finally {
    URL.revokeObjectURL(url);
  }
}

function drawThumbnail(entry, image) {
  const scale = Math.min(1, THUMB / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = entry.part(".thumb");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
}

/** Draw on the thumbnail which part the model saw. */
function outlineCrop(entry, { box, width, height }) {
  const canvas = entry.part(".thumb");
  const pen = canvas.getContext("2d");
  const [right, down] = [canvas.width / width, canvas.height / height];
  pen.strokeStyle = "#7cc0ee";
  pen.lineWidth = 2;
  pen.strokeRect(box.left * right, box.top * down, (box.right - box.left) * right, (box.bottom - box.top) * down);
}

// --- What came back ---

const READABLE = { notumor: "no tumour" };
const readable = (name) => READABLE[name] ?? name.replaceAll("_", " ");

const share = (value) => `${(100 * value).toFixed(1)} %`;

/** A probability: never none at all, never certain. */
function percent(value) {
  if (value > 0.999) return "> 99.9 %";
  return value < 0.001 ? "< 0.1 %" : share(value);
}

const count = (value) => value.toLocaleString("en", { maximumFractionDigits: 1 });

/** What is decided, and what to do about it. */
function decisionOf(answer) {
  const served = model.models.find(({ id }) => id === answer.model.id);
  const { abstain_below: least, error } = served?.bundle.decision ?? {};
  if (answer.decision === "answer") {
    let wrong = "";
    if (error !== undefined) wrong = `in validation, ${error ? share(error) : "none"} of such answers were wrong. `;
    return ["Sure enough to answer:", `${wrong}A person still has to read the slice.`];
  }
  if (answer.decision === "abstain") {
    let why = "";
    if (least > 1) why = " This model withholds all its answers.";
    else if (least !== undefined) why = ` The model answers from ${percent(least)} on.`;
    return ["Not sure enough:", `do not use this class, let a person read the slice.${why}`];
  }
  return ["Unlike the images that the model learned from:", "disregard the class. Check that the file is a single MR slice of a head."];
}

const HEDGES = { answer: "", abstain: "Most probable, but no answer:", not_mr: "The class would be" };

function showAnswer(entry, answer) {
  const { crop, heatmap, overlay, ...words } = answer;
  entry.answer = words;
  entry.problem = undefined;
  const { part } = entry;
  setState(entry, "done");
  entry.element.dataset.decision = answer.decision;
  part(".hedge").textContent = HEDGES[answer.decision] ?? "";
  part(".label b").textContent = capital(readable(answer.label));
  part(".label b").dataset.class = answer.label;
  part(".confidence").textContent = percent(answer.confidence);
  part(".confidence").title = `Calibrated probability: ${answer.confidence}`;
  const [short, long] = decisionOf(answer);
  part(".answer .decision use").setAttribute("href", `#icon-${answer.decision}`);
  part(".answer .decision b").textContent = short;
  part(".answer .decision span span").textContent = long;
  part(".note").textContent = answer.has_box ? "" : "No outline of a head was found: the model saw the whole image.";
  part(".bars tbody").replaceChildren(...model.classes.map((name) => barOf(name, answer)));
  part("dl").replaceChildren(...factsOf(answer));
  showPictures(entry, crop, heatmap);
  announce(entry, `${readable(answer.label)}, ${percent(answer.confidence)}. ${short} ${long}`);
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function barOf(name, answer) {
  const value = answer.calibrated[name] ?? 0;
  const row = make("tr", { className: name === answer.label ? "first" : "" });
  row.title = `Calibrated: ${value}; the network itself: ${answer.probabilities[name]}`;
  const fill = make("div");
  fill.style.width = `${100 * value}%`;
  row.append(
    make("th", { scope: "row" }, readable(name)),
    make("td", { className: "track" }, make("div", { ariaHidden: "true" }, fill)),
    make("td", { className: "value" }, percent(value)),
  );
  return row;
}

function factsOf(answer) {
  const { box } = answer;
  const raw = model.classes.map((name) => `${readable(name)} ${percent(answer.probabilities[name] ?? 0)}`);
  const crop = `rows ${box.top} to ${box.bottom - 1}, columns ${box.left} to ${box.right - 1}`;
  const facts = [
    ["Before calibration", raw.join(", ")],
    ["Unlikeness", `${answer.unlikeness.toFixed(2)}; above 1 the image is not like those the model learned from`],
    ["Image", `${answer.width} × ${answer.height} pixels`],
    ["Crop", answer.has_box ? crop : "the whole image"],
    ["Model", answer.model.id],
    ["Time", `${Math.round(answer.milliseconds)} ms`],
  ];
  return facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
}

function showPictures(entry, cropPng, heatPng) {
  const [crop, heat] = [entry.part(".crop"), entry.part(".heat")];
  dropPictures(entry);
  entry.urls = [cropPng, heatPng].map(pictureUrl);
  [crop.src, heat.src] = entry.urls;
  crop.alt = `The part of ${entry.name} that the model saw, with a map of what the class rests on`;
  const label = readable(entry.answer.label);
  entry.part(".frame").title = `Heat map (Grad-CAM): the brighter, the more the class ${label} rests on it`;
  entry.part("input").value = opacity;
  setOpacity(entry, opacity);
  if (!entry.pixels) crop.decode().then(() => drawThumbnail(entry, crop), () => {});
  else if (entry.answer.has_box) outlineCrop(entry, entry.answer);
}

/** Keep a picture as a blob: hundreds of them as text would fill the memory. */
function pictureUrl(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}

function dropPictures(entry) {
  for (const url of entry.urls ?? []) URL.revokeObjectURL(url);
}

function setOpacity(entry, value) {
  opacity = value;
  entry.part(".heat").style.opacity = value / 100;
  entry.part("output").textContent = `${value} %`;
  entry.part("input").setAttribute("aria-valuetext", `${value} %`);
}

const atMost = (name, unit, by) => (model ? `This server takes at most ${count(model.limits[name] / by)} ${unit}. ` : "");

const BY_CODE = {
  not_ready: () => ["The server is not ready", "Try again in a minute."],
  too_large: () => ["Too large to be sent", `${atMost("max_upload_mb", "MB", 1)}Save it smaller or as JPEG.`],
  too_many_pixels: () => ["Too many pixels", `${atMost("max_pixels", "megapixels", 1e6)}Save it smaller.`],
  empty: () => ["The file is empty", "Export or copy it again."],
  too_small: () => ["Too small to show a brain", "Send the slice at its full size."],
  undecodable: () => ["The file is damaged", "It begins as an image, but cannot be read to its end. Export or copy it again."],
};

const BY_STATUS = {
  0: () => ["The server cannot be reached", "Check the network, then try again."],
  400: () => ["The server could not read the request", "Try again."],
  403: () => ["The server does not take requests from this page", "Open it under the address that whoever runs it gave you."],
  404: () => ["The server does not know this address", "Load the page anew."],
  408: () => ["Sending took too long", "Check the network, then try again."],
  413: () => ["Too large to be sent", "Save it smaller or as JPEG."],
  415: () => ["Not an image that can be read", "Send JPEG, PNG, BMP, TIFF or WebP. Export DICOM files as PNG or TIFF first."],
  422: () => ["The image cannot be used", "Export or copy it again."],
  503: () => ["The server is busy", "Try again in a minute."],
  504: () => ["The answer was not ready in time", "The server may be busy. Try again."],
};

/** What is wrong, and what to do about it. */
function explain({ status, code }) {
  const known = BY_CODE[code] ?? BY_STATUS[status];
  const advice = `Try again. If it stays, tell whoever runs the server (status ${status}).`;
  return known ? known() : ["The server has a fault", advice];
}

function showFailure(entry, problem) {
  entry.problem = problem;
  entry.answer = undefined;
  setState(entry, "failed");
  const [title, advice] = explain(problem);
  entry.part(".failure b").textContent = `${title}.`;
  entry.part(".failure .decision span span").textContent = advice;
  const said = problem.detail.replace(/\.?$/, ".");
  entry.part(".detail").textContent = problem.detail ? capital(said) : "";
  // The same bytes would only get the same error.
  entry.part(".again").classList.toggle("never", [413, 415, 422].includes(problem.status));
  announce(entry, `${title}. ${advice}`);
}

// --- All of them ---

const GROUPS = [
  ["", "All"], ["answer", "Answered"], ["abstain", "Not sure"], ["not_mr", "Unlike training"], ["failed", "Failed"],
];

function groupOf(entry) {
  if (entry.state === "done") return entry.answer.decision;
  return entry.state === "failed" ? "failed" : "";
}

function summarise() {
  const groups = entries.map(groupOf);
  const only = $("list").dataset.only ?? "";
  const numbers = GROUPS.map(([group]) => (group ? groups.filter((of) => of === group).length : entries.length));
  if (only && !numbers[GROUPS.findIndex(([group]) => group === only)]) return showOnly("");
  $("empty").hidden = entries.length > 0;
  $("actions").hidden = !entries.length;
  $("filters").hidden = entries.length < 2;
  if (!$("filters").children.length) {
    $("filters").append(...GROUPS.map(([group, name]) => {
      const button = make("button", { type: "button" }, `${name} `, make("b"));
      button.addEventListener("click", () => showOnly(group));
      return button;
    }));
  }
  GROUPS.forEach(([group], i) => {
    const button = $("filters").children[i];
    button.hidden = Boolean(group) && !numbers[i];
    button.querySelector("b").textContent = numbers[i];
    button.setAttribute("aria-pressed", String(group === only));
  });
}

function showOnly(group) {
  $("list").dataset.only = group;
  summarise();
}

/** Tell a screen reader, once for what comes in quick succession. */
function announce(entry, text) {
  announce.texts.push(`${entry.name}: ${text}`);
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => {
    const open = entries.filter(({ state }) => !["done", "failed"].includes(state)).length;
    const rest = open ? ` ${open} are still open.` : "";
    const many = `${announce.texts.length} more images are read.`;
    $("status").textContent = (announce.texts.length > 3 ? many : announce.texts.join(" ")) + rest;
    announce.texts = [];
  }, 400);
}
announce.texts = [];

/** An entry as the endpoint told it, without the pictures. */
function plain(entry) {
  if (entry.answer) return entry.answer;
  const { status, code, detail } = entry.problem ?? { status: 0, code: entry.state, detail: "" };
  return { status: "error", name: entry.name, problem: entry.problem?.body ?? { status, code, detail } };
}

const asJson = (entry) => JSON.stringify(plain(entry), null, 2);

async function copy(button, area, text) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text); // there only on https or on this machine
    copied = true;
  } catch {
    area.hidden = false;
    area.value = text;
    area.setAttribute("aria-label", "JSON, to copy by hand");
    area.focus();
    area.select();
    copied = document.execCommand("copy");
    if (copied) {
      area.hidden = true;
      button.focus();
    }
  }
  button.dataset.text ??= button.textContent;
  button.textContent = copied ? "Copied" : "Copy it from the field";
  $("status").textContent = copied ? "JSON copied" : "JSON is in the field, selected: copy it from there";
  clearTimeout(button.timer);
  button.timer = setTimeout(() => { button.textContent = button.dataset.text; }, 2500);
}

// --- Samples and model card ---

async function showSamples() {
  if ($("samples").children.length) return;
  const items = model.samples.map((name) => make("li"));
  $("samples").replaceChildren(...items);
  await Promise.all(model.samples.map(async (name, i) => {
    const shown = readable(name.replace(/\.\w+$/, ""));
    try {
      const blob = await (await ask(`v1/samples/${encodeURIComponent(name)}`)).blob();
      const image = make("img", { alt: "", src: URL.createObjectURL(blob) });
      const button = make("button", { type: "button", title: `Send the sample ${shown}` }, image, shown);
      button.addEventListener("click", () => addFiles([{ file: new File([blob], name, { type: blob.type }) }]));
      items[i].append(button);
    } catch {
      items[i].remove(); // the page works without
    }
  }));
  $("samples-part").hidden = !$("samples").children.length;
}

function showCards() {
  const parts = model.models.flatMap((served) => {
    const { id, role, mode, card } = served;
    const what = mode === "mirrors" ? "sees copies of" : "answers";
    const head = make("p", { className: "soft small" }, `${id}, ${role}: ${what} ${share(served.share)} of the images`);
    return model.models.length > 1 ? [head, ...markdown(card)] : markdown(card);
  });
  $("card-text").replaceChildren(...parts);
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Build the elements of a Markdown text: headings, lists, tables, code, paragraphs; HTML in it stays text. */
function markdown(text) {
  const lines = text.replaceAll("\r", "").split("\n");
  const blocks = [];
  while (lines.length) {
    const line = lines[0];
    if (!line.trim()) lines.shift();
    else if (line.startsWith("```")) blocks.push(codeBlock(lines));
    else if (/^#{1,6} /.test(line)) {
      const [, marks, title] = lines.shift().match(/^(#+)\s+(.*?)\s*#*$/);
      blocks.push(make(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(title)));
    } else if (/^\|/.test(line)) blocks.push(table(lines));
    else if (ITEM.test(line)) blocks.push(list(lines));
    else {
      const words = [];
      const ends = (next) => !next.trim() || /^(```|#{1,6} |\|)/.test(next) || ITEM.test(next);
      do words.push(lines.shift().trim()); while (lines.length && !ends(lines[0]));
      blocks.push(make("p", {}, ...inline(words.join(" "))));
    }
  }
  return blocks;
}

const ITEM = /^(\s*)([-*]|\d+\.)\s+(.*)$/;

function codeBlock(lines) {
  lines.shift();
  const code = [];
  while (lines.length && !lines[0].startsWith("```")) code.push(lines.shift());
  lines.shift();
  return make("pre", { tabIndex: 0 }, make("code", {}, code.join("\n")));
}

function table(lines) {
  const rows = [];
  while (lines.length && lines[0].startsWith("|")) {
    const line = lines.shift().trim().replace(/^\||\|$/g, "");
    rows.push(line.split("|").map((cell) => cell.trim()));
  }
  const isRule = (row) => row.every((cell) => /^:?-+:?$/.test(cell));
  const head = rows.length > 1 && isRule(rows[1]) ? rows.splice(0, 2)[0] : null;
  const result = make("table");
  const rowOf = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, {}, ...inline(cell))));
  if (head) result.append(make("thead", {}, rowOf(head, "th")));
  result.append(make("tbody", {}, ...rows.map((row) => rowOf(row, "td"))));
  return make("div", { className: "scroll", tabIndex: 0 }, result);
}

/** A list with those inside it; an indented line without a mark goes on with its item. */
function list(lines) {
  const [, indent, mark] = lines[0].match(ITEM);
  const result = make(/\d/.test(mark) ? "ol" : "ul");
  while (lines.length) {
    const [, depth, , text] = lines[0].match(ITEM) ?? [];
    if (depth === undefined || depth.length < indent.length) break;
    if (depth.length > indent.length) {
      result.lastElementChild.append(list(lines));
      continue;
    }
    lines.shift();
    const words = [text];
    while (lines.length && /^\s+\S/.test(lines[0]) && !ITEM.test(lines[0])) words.push(lines.shift().trim());
    result.append(make("li", {}, ...inline(words.join(" "))));
  }
  return result;
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/).filter(Boolean).map((part) => {
    if (/^`[^`]+`$/.test(part)) return make("code", {}, part.slice(1, -1));
    if (/^\*\*[^*]+\*\*$/.test(part)) return make("strong", {}, part.slice(2, -2));
    const [, words, address] = part.match(/^\[([^\]]+)\]\((https?:\/\/[^)\s]+)\)$/) ?? [];
    return address ? make("a", { href: address, rel: "noopener noreferrer" }, words) : part;
  });
}

// --- The page's controls ---

function start() {
  storeKey(storedKey());
  $("browse").addEventListener("click", () => $("files").click());
  $("browse-folder").addEventListener("click", () => $("folder").click());
  $("files").addEventListener("change", () => {
    addFiles([...$("files").files].map((file) => ({ file })));
    $("files").value = "";
  });
  $("folder").addEventListener("change", () => {
    const files = [...$("folder").files].filter(({ name }) => !HIDDEN.test(name));
    addFiles(inOrder(files.map((file) => ({ file, path: file.webkitRelativePath || file.name }))));
    $("folder").value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    addFiles(files.map((file) => ({ file })));
  });

  // The whole window takes files: one dropped beside the field would otherwise replace the page.
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    $("drop").classList.remove("over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    try {
      addFiles(await filesOf(event.dataTransfer));
    } catch {
      $("left-out").textContent = "The browser could not read what was dropped. Choose the files instead.";
    }
  });

  $("key").addEventListener("submit", useKey);
  $("forget").addEventListener("click", () => {
    storeKey("");
    $("browse").focus();
  });
  $("trouble").querySelector("button").addEventListener("click", loadModel);
  $("copy-all").addEventListener("click", () => {
    const area = entries[0].part(".json");
    copy($("copy-all"), area, JSON.stringify(entries.map(plain), null, 2));
  });
  $("clear").addEventListener("click", () => {
    entries.splice(0).forEach(discard);
    $("left-out").textContent = "";
    showOnly("");
    $("browse").focus();
  });
  $("to-card").addEventListener("click", () => { $("card").open = true; });
  if (location.hash === "#card") $("card").open = true;
  loadModel();
}

start();
