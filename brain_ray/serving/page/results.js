// What came back, as elements of the page: pictures, probabilities, what is decided or wrong, model cards.
// Whatever a server or a file says is text, never HTML.

import { Problem, model } from "./api.js";
import { make } from "./dom.js";
import { markdown } from "./markdown.js";

const THUMB = 112; // pixels of a thumbnail's longer side

let opacity = 55; // of the next heat map: as last set, in percent

// --- Words ---

const READABLE = { notumor: "no tumour" };
export const readable = (name) => READABLE[name] ?? name.replaceAll("_", " ");

const share = (value) => `${(100 * value).toFixed(1)} %`;

/** A probability: never none at all, never certain. */
export function percent(value) {
  if (value > 0.999) return "> 99.9 %";
  return value < 0.001 ? "< 0.1 %" : share(value);
}

export const count = (value) => value.toLocaleString("en", { maximumFractionDigits: 1 });

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

/** What stands before a patient's class, what is decided, and what to do about it. */
export function patientDecision({ decision }) {
  const { abstain_below: least, error } = model.models[0]?.bundle.patients ?? {};
  if (decision === "answer") {
    const wrong = error === undefined ? "" : `of such answers to patients of validation ${error ? share(error) : "none"} were wrong. `;
    return ["", "Sure enough to answer:", `${wrong}A person still has to read the slices.`];
  }
  if (decision === "abstain") {
    let why = "";
    if (least > 1) why = " This model withholds all its answers to patients.";
    else if (least !== undefined) why = ` The model answers for a patient from ${percent(least)} on.`;
    return [HEDGES.abstain, "Not sure enough:", `do not use this class, let a person read the slices.${why}`];
  }
  if (decision === "unreadable") return ["", "Nothing to answer:", "none of the slices could be read."];
  return [HEDGES.not_mr, "Unlike the images that the model learned from:", "more than half of the slices are, or show no head. Disregard the class."];
}

const HEDGES = { answer: "", abstain: "Most probable, but no answer:", not_mr: "The class would be" };

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// --- An answer ---

/** Show an entry's answer in its place; returns what is decided, in short and in long. */
export function fillAnswer(entry, crop, heatmap) {
  const { answer, part } = entry;
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
  return [short, long];
}

function barOf(name, answer) {
  const value = answer.calibrated[name] ?? 0;
  const title = `Calibrated: ${value}; the network itself: ${answer.probabilities[name]}`;
  return barRow(name, value, name === answer.label, title);
}

/** A class's row in a table of probabilities. */
export function barRow(name, value, isFirst, title) {
  const row = make("tr", { className: isFirst ? "first" : "", title });
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
  const candidates = (answer.candidates ?? []).map(readable).join(", ");
  const facts = [
    ...(candidates ? [["Not excluded", candidates]] : []),
    ["Before calibration", raw.join(", ")],
    ["Unlikeness", `${answer.unlikeness.toFixed(2)}; above 1, its features are too far from the training images; below 1, it need still be no MR slice`],
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
export function pictureUrl(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}

export function dropPictures(entry) {
  for (const url of entry.urls ?? []) URL.revokeObjectURL(url);
}

export function setOpacity(entry, value) {
  opacity = value;
  entry.part(".heat").style.opacity = value / 100;
  entry.part("output").textContent = `${value} %`;
  entry.part("input").setAttribute("aria-valuetext", `${value} %`);
}

// --- The file, drawn small ---

/** Draw the file small, if this browser can read it. What it cannot (TIFF), the server's crop stands in for. */
export async function showThumbnail(entry) {
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

// --- What is wrong ---

const atMost = (name, unit, by) => (model ? `This server takes at most ${count(model.limits[name] / by)} ${unit}. ` : "");

const BY_CODE = {
  not_ready: () => ["The server is not ready", "Try again in a minute."],
  too_large: () => ["Too large to be sent", `${atMost("max_upload_mb", "MB", 1)}Save it smaller or as JPEG.`],
  study_too_large: () => ["Too large to be sent", `${atMost("max_study_mb", "MB", 1)}Send one series at a time.`],
  too_many_images: () => ["Too many slices", `${atMost("max_study_images", "slices", 1)}Send one series at a time.`],
  too_many_pixels: () => ["Too many pixels", `${atMost("max_pixels", "megapixels", 1e6)}Save it smaller.`],
  empty: () => ["The file is empty", "Export or copy it again."],
  several_images: () => ["The file holds several images", "Save each slice as a file of its own."],
  too_small: () => ["Too small to show a brain", "Send the slice at its full size."],
  undecodable: () => ["The file is damaged", "It begins as an image, but cannot be read to its end. Export or copy it again."],
};

const BY_STATUS = {
  0: () => ["The server cannot be reached", "Check the network, then try again."],
  400: () => ["The server could not read the request", "Try again."],
  401: () => ["An API key is needed", "Give it, then try again."],
  403: () => ["The server does not take requests from this page", "Open it under the address that whoever runs it gave you."],
  404: () => ["The server does not know this address", "Load the page anew."],
  408: () => ["Sending took too long", "Check the network, then try again."],
  413: () => ["Too large to be sent", "Save it smaller or as JPEG."],
  415: () => ["Not an image that can be read", `Send ${document.getElementById("limits").dataset.formats}.`],
  422: () => ["The image cannot be used", "Export or copy it again."],
  503: () => ["The server is busy", "Try again in a minute."],
  504: () => ["The answer was not ready in time", "The server may be busy. Try again."],
};

/** What is wrong, and what to do about it. */
export function explain({ status, code }) {
  const known = BY_CODE[code] ?? BY_STATUS[status];
  const advice = `Try again. If it stays, tell whoever runs the server (status ${status}).`;
  return known ? known() : ["The server has a fault", advice];
}

/** Show what is wrong with an entry in its place; returns it, and what to do about it. */
export function fillFailure(entry, problem) {
  const [title, advice] = explain(problem);
  entry.part(".failure b").textContent = `${title}.`;
  entry.part(".failure .decision span span").textContent = advice;
  const said = problem.detail.replace(/\.?$/, ".");
  entry.part(".detail").textContent = problem.detail ? capital(said) : "";
  // The same bytes would only get the same error.
  entry.part(".again").classList.toggle("never", [413, 415, 422].includes(problem.status));
  return [title, advice];
}

// --- Model cards ---

/** The elements of the model cards of all models on the air. */
export function cardParts() {
  return model.models.flatMap((served) => {
    const { id, role, mode, card } = served;
    const what = mode === "mirrors" ? "sees copies of" : "answers";
    const head = make("p", { className: "soft small" }, `${id}, ${role}: ${what} ${share(served.share)} of the images`);
    return model.models.length > 1 ? [head, ...markdown(card)] : markdown(card);
  });
}
