// The endpoint's page: sends images one by one, studies as a whole, and shows what comes back. Whatever a server or a file says is
// put into the page as text, never as HTML.

import { Problem, TRIES, ask, fetchDrift, fetchModel, model, sleep, storeKey, storedKey } from "./api.js";
import { asJson, copy, plain } from "./copying.js";
import { $ } from "./dom.js";
import { HIDDEN, MOST_LISTED, inOrder, takeDrops } from "./files.js";
import { announce, entries, showOnly, summarise } from "./list.js";
import {
  cardParts, count, dropPictures, explain, fillAnswer, fillFailure, percent, readable, setOpacity, showThumbnail,
} from "./results.js";
import { showSamples } from "./samples.js";
import { addStudy, clearStudies, divide } from "./study.js";

const IN_FLIGHT = 4; // requests at a time
const RESTART_S = 10; // until a replica that was lost is replaced
const DRIFT_S = 60; // between two looks at whether images differ from those of validation
const FORM_BYTES = 1000; // what the form around a file adds to it, generously

let running = 0;

async function loadModel() {
  $("trouble").hidden = true;
  try {
    await fetchModel();
  } catch (error) {
    return error.status === 401 ? wantKey(error) : showTrouble(error);
  }
  const main = model.models[0];
  $("model").textContent = main ? `Model ${main.id}` : "";
  document.title = main ? `brain_ray: ${main.id}` : "brain_ray";
  const { max_upload_mb: mb, max_pixels: pixels } = model.limits;
  const most = `${count(mb)} MB and ${count(pixels / 1e6)} megapixels`;
  $("limits").textContent = `${$("limits").dataset.formats}, up to ${most} each.`;
  if (model.review) $("kept").textContent = "This server keeps files without a sure answer, for people to look at.";
  $("card-text").replaceChildren(...cardParts());
  pump();
  showSamples(addFiles);
  showDrift();
}

async function showDrift() {
  const sentence = await fetchDrift();
  $("drift").hidden = !sentence;
  $("drift").textContent = sentence;
  setTimeout(showDrift, DRIFT_S * 1000);
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

function keepKey(key) {
  storeKey(key);
  $("forget").hidden = !key;
}

function useKey(event) {
  event.preventDefault();
  const key = $("key-field").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $("key-why").textContent = "A key has letters, digits and signs only, without blanks.";
    return;
  }
  keepKey(key);
  $("key-field").value = "";
  $("key").hidden = true;
  for (const entry of entries) if (entry.state === "held") setState(entry, "waiting");
  $("browse").focus();
  if (model) {
    pump();
    showSamples(addFiles);
  } else loadModel();
}

// --- Files in ---

/** Take files in: those of a study together, the others one by one. */
async function addFiles(files) {
  const { study, images } = await divide(files);
  addImages(images);
  if (study.length) await addStudy(study);
}

function addImages(files) {
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

function showAnswer(entry, answer) {
  const { crop, heatmap, overlay, ...words } = answer;
  entry.answer = words;
  entry.problem = undefined;
  setState(entry, "done");
  entry.element.dataset.decision = answer.decision;
  const [short, long] = fillAnswer(entry, crop, heatmap);
  announce(entry, `${readable(answer.label)}, ${percent(answer.confidence)}. ${short} ${long}`);
}

function showFailure(entry, problem) {
  entry.problem = problem;
  entry.answer = undefined;
  setState(entry, "failed");
  const [title, advice] = fillFailure(entry, problem);
  announce(entry, `${title}. ${advice}`);
}

// --- The page's controls ---

function start() {
  keepKey(storedKey());
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

  takeDrops(addFiles);

  $("key").addEventListener("submit", useKey);
  $("forget").addEventListener("click", () => {
    keepKey("");
    $("browse").focus();
  });
  $("trouble").querySelector("button").addEventListener("click", loadModel);
  $("copy-all").addEventListener("click", () => {
    const area = entries[0].part(".json");
    copy($("copy-all"), area, JSON.stringify(entries.map(plain), null, 2));
  });
  $("clear").addEventListener("click", () => {
    entries.splice(0).forEach(discard);
    clearStudies();
    $("left-out").textContent = "";
    showOnly("");
    $("browse").focus();
  });
  $("to-card").addEventListener("click", () => { $("card").open = true; });
  if (location.hash === "#card") $("card").open = true;
  loadModel();
}

start();
