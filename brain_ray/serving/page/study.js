// Studies: files of DICOM, volumes or an archive sent together; an answer for each patient, above a strip of
// the slices that the keyboard walks through.

import { Problem, TRIES, ask, model, sleep } from "./api.js";
import { copy } from "./copying.js";
import { $, make } from "./dom.js";
import { summarise } from "./list.js";
import { barRow, capital, count, fillFailure, patientDecision, percent, pictureUrl, readable } from "./results.js";

const MAGIC_AT = 128; // of DICOM
const VOLUME = /\.(nii|nii\.gz|zip)$/i;
const PICTURE = /\.(jpe?g|jpe|jfif|png|bmp|dib|tiff?|webp|gif|p[gbpn]m|jp2|j2k|jpf|j2c|mat)$/i;

/** Divide files into those of a study and those that are answered one by one. A single DICOM file is an image. */
export async function divide(files) {
  const kinds = await Promise.all(files.map(({ file }) => kindOf(file)));
  const dicoms = kinds.filter((kind) => kind === "dicom").length;
  const isOfStudy = (kind) => kind === "volume" || (kind === "dicom" && dicoms > 1);
  return {
    study: files.filter((_, i) => isOfStudy(kinds[i])),
    images: files.filter((_, i) => !isOfStudy(kinds[i])),
  };
}

async function kindOf(file) {
  if (VOLUME.test(file.name)) return "volume";
  if (PICTURE.test(file.name)) return "picture";
  try {
    const head = await file.slice(MAGIC_AT, MAGIC_AT + 4).text();
    return head === "DICM" ? "dicom" : "other";
  } catch {
    return "other"; // what is wrong with it is said when it is sent
  }
}

/** Send files as one study and show what comes back. */
export async function addStudy(files) {
  const element = $("study").content.firstElementChild.cloneNode(true);
  const part = (of) => element.querySelector(of);
  const folder = (files[0].path ?? "").split("/").slice(0, -1).join("/");
  const name = files.length === 1 ? files[0].file.name : folder || `${files.length} files`;
  const study = { element, part, urls: [] };
  part(".name").textContent = `Study: ${name}`;
  part(".remove").setAttribute("aria-label", `Remove the study ${name}`);
  part(".remove").addEventListener("click", () => remove(study));
  part(".again").addEventListener("click", () => send(study, files, name));
  $("studies").prepend(element);
  summarise();
  $("results").scrollIntoView({ block: "nearest" });
  await send(study, files, name);
}

export function clearStudies() {
  for (const element of [...$("studies").children]) element.querySelector(".remove").click();
}

function remove(study) {
  study.element.remove();
  study.removed = true;
  study.urls.forEach((url) => URL.revokeObjectURL(url));
  summarise();
  $("browse").focus();
}

async function send(study, files, name) {
  const { element, part } = study;
  element.dataset.state = "sending";
  element.setAttribute("aria-busy", "true");
  part(".progress").textContent = `${files.length === 1 ? "One file is" : `${files.length} files are`} being read`;
  try {
    while (!model && !study.removed) await sleep(0.2); // for the limits, and perhaps for a key
    if (study.removed) return;
    check(files);
    const body = await fetchStudy(files, part);
    if (!study.removed) show(study, body, name);
  } catch (error) {
    const unread = `an answer that this page cannot read: ${error.message}`;
    if (!study.removed) fail(study, error instanceof Problem ? error : new Problem(500, "", unread));
  }
  element.setAttribute("aria-busy", "false");
}

function check(files) {
  const { max_study_mb: most, max_study_images: number } = model.limits;
  const size = files.reduce((sum, { file }) => sum + file.size, 0);
  if (files.length > number) throw new Problem(413, "too_many_images", `not sent: it has ${files.length} files`);
  if (size > most * 1e6) throw new Problem(413, "study_too_large", `not sent: it has ${count(size / 1e6)} MB`);
}

async function fetchStudy(files, part) {
  for (let attempt = 1; ; attempt++) {
    const form = new FormData();
    for (const { file, path } of files) form.append("file", file, path ?? file.name);
    try {
      return await (await ask("v1/studies?pictures=true", { method: "POST", body: form })).json();
    } catch (error) {
      if (error.code !== "queue_full" || attempt === TRIES) throw error;
      part(".progress").textContent = `The server is busy: try ${attempt + 1} of ${TRIES}`;
      await sleep(error.retryAfter || 2);
    }
  }
}

function fail(study, problem) {
  study.element.dataset.state = "failed";
  const [title, advice] = fillFailure(study, problem);
  $("status").textContent = `${title}. ${advice}`;
}

function show(study, body, name) {
  const { element, part } = study;
  element.dataset.state = "done";
  const patients = body.patients.map((patient) => showPatient(study, body, patient));
  part(".patients").replaceChildren(...patients);
  const unread = body.unassigned.map(({ name: file, problem }) => `${file}: ${problem.detail}`);
  const empty = body.empty_slices ? [`${body.empty_slices} empty slices were passed over`] : [];
  const notes = [...body.notes, ...empty, ...unread].map((note) => make("li", {}, capital(note)));
  part(".notes").replaceChildren(...notes);
  const slices = body.slices.map(({ crop, heatmap, ...words }) => words);
  part(".copy").onclick = () => {
    copy(part(".copy"), part(".json"), JSON.stringify({ ...body, slices }, null, 2));
  };
  const said = body.patients.map(({ number, label }) => `patient ${number}: ${label ? readable(label) : "no answer"}`);
  $("status").textContent = `${name}: ${said.join(", ") || "no patient"}`;
}

function showPatient(study, body, patient) {
  const element = $("patient").content.firstElementChild.cloneNode(true);
  const part = (of) => element.querySelector(of);
  const own = body.slices.map((slice, i) => ({ ...slice, i })).filter((slice) => slice.patient === patient.number);
  element.dataset.decision = patient.decision;
  const series = patient.series.length === 1 ? "" : `, ${patient.series.length} series`;
  part(".which").textContent = `Patient ${patient.number}: ${patient.num_counted} of ${patient.num_slices} slices counted${series}`;
  const [hedge, short, long] = patientDecision(patient);
  part(".hedge").textContent = patient.label ? hedge : "";
  part(".label b").textContent = patient.label ? capital(readable(patient.label)) : "No answer";
  part(".confidence").textContent = patient.label ? percent(patient.confidence) : "";
  part(".decision use").setAttribute("href", `#icon-${patient.decision === "unreadable" ? "error" : patient.decision}`);
  part(".decision b").textContent = short;
  part(".decision span span").textContent = long;
  const bars = Object.entries(patient.calibrated ?? {});
  part(".bars tbody").replaceChildren(
    ...bars.map(([name, value]) => barRow(name, value, name === patient.label, `Of the patient: ${value}`)),
  );
  fillStrip(study, element, own, patient);
  return element;
}

function fillStrip(study, element, own, patient) {
  const strip = element.querySelector(".strip");
  strip.setAttribute("aria-label", `Slices of patient ${patient.number}`);
  const cells = own.map((slice, at) => cellOf(study, slice, at, patient));
  strip.replaceChildren(...cells);
  const choose = (at) => {
    cells.forEach((cell, i) => cell.setAttribute("aria-selected", String(i === at)));
    strip.dataset.at = at;
    strip.setAttribute("aria-activedescendant", cells[at].id);
    cells[at].scrollIntoView({ block: "nearest", inline: "nearest" });
    showSlice(element, own, at, cells[at]);
  };
  cells.forEach((cell, at) => cell.addEventListener("click", () => choose(at)));
  strip.addEventListener("keydown", (event) => {
    const at = Number(strip.dataset.at);
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: own.length - 1 };
    const next = steps[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choose(Math.min(own.length - 1, Math.max(0, next)));
  });
  const slider = element.querySelector(".slider input");
  slider.addEventListener("input", () => {
    element.querySelector(".heat").style.opacity = slider.value / 100;
    element.querySelector("output").textContent = `${slider.value} %`;
  });
  element.querySelector(".heat").style.opacity = slider.value / 100;
  const [first] = patient.carried_by;
  choose(Math.max(0, own.findIndex(({ i }) => i === first)));
}

let cellsMade = 0;

function cellOf(study, slice, at, patient) {
  const { result } = slice;
  const cell = make("div", { className: "cell", id: `slice-${++cellsMade}` });
  cell.setAttribute("role", "option");
  cell.dataset.kind = slice.counted ? (result.label === patient.label ? "same" : "other") : "out";
  if (patient.carried_by.includes(slice.i)) cell.dataset.carries = "";
  const said = result.status === "error" ? "could not be read" : `${readable(result.label)} ${percent(result.confidence)}`;
  cell.setAttribute("aria-label", `Slice ${at + 1}: ${said}${slice.counted ? "" : ", not counted"}`);
  cell.title = `${result.name}: ${said}`;
  if (slice.crop) {
    const urls = [slice.crop, slice.heatmap].map(pictureUrl);
    study.urls.push(...urls);
    cell.urls = urls;
    cell.append(make("img", { src: urls[0], alt: "", loading: "lazy" }));
  }
  return cell;
}

function showSlice(element, own, at, cell) {
  const part = (of) => element.querySelector(of);
  const { result, counted, series } = own[at];
  const [crop, heat] = [part(".crop"), part(".heat")];
  for (const [image, url] of [[crop, cell.urls?.[0]], [heat, cell.urls?.[1]]]) {
    if (url) image.src = url;
    else image.removeAttribute("src");
  }
  const said = result.status === "error"
    ? `${result.problem.detail}`
    : `${capital(readable(result.label))} ${percent(result.confidence)}${counted ? "" : ", not counted"}`;
  crop.alt = `Slice ${at + 1} with a map of what its class rests on`;
  part(".which-slice").textContent = `Slice ${at + 1} of ${own.length}, series ${series}: ${said}`;
  part(".file").textContent = result.name;
}
