// The bundle's sample images, to be sent by a click.

import { ask, model } from "./api.js";
import { $, make } from "./dom.js";
import { readable } from "./results.js";

/** Show a button for each sample; a click gives its file to `addFiles`. */
export async function showSamples(addFiles) {
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
