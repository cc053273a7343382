"use strict";
{
  // Each scan is sent alone: answers come one by one, and heat maps, which take longer, after all of them.
  const form = document.getElementById("form");
  const input = document.getElementById("files");
  const drop = document.getElementById("drop");
  const send = document.getElementById("send");
  const said = document.getElementById("said");
  const list = document.getElementById("answers");
  const MOST = Number(form.dataset.files);
  const LONGEST = Number(form.dataset.bytes);

  function say(text, bad = false) {
    said.textContent = text;
    said.classList.toggle("bad", bad);
  }

  function line(item, text, className = "") {
    const made = document.createElement("p");
    made.className = className;
    made.textContent = text;
    item.append(made);
  }

  const begun = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  /** The answer about one scan, or why there is none. */
  async function ask(file, heatmaps) {
    if (file.size > LONGEST) throw new Error(`has ${Math.ceil(file.size / 1e6)} MB; at most ${LONGEST / 1e6} are read`);
    const body = new FormData();
    const coded = /\.(dcm|dicom)$/i.exec(file.name);  // all that is told of a name: some DICOM files are known by nothing else
    body.append("files", file, `scan${coded ? coded[0] : ""}`);
    body.append("threshold", form.elements.threshold.value);
    if (heatmaps) body.append("heatmaps", "yes");
    let answer;
    try {
      answer = await fetch("predict", { method: "POST", body });
    } catch {
      throw new Error("could not be sent: it is a folder, or mammo serve has ended");
    }
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(content.error || `the server answers ${answer.status}`);
    document.getElementById("about").textContent = content.model;  // it names the threshold that was chosen
    return content.images[0];
  }

  function show(item, one) {
    line(item, begun(one.reason ? `${one.reading}: ${one.reason}` : one.reading), one.reason ? "bad" : "reading");
    if (one.probability !== null) line(item, `Probability ${one.probability.toFixed(6)}`);
    if (one.calibrated !== null) line(item, `Calibrated ${one.calibrated.toFixed(6)}`);
    for (const warning of one.warnings) line(item, begun(warning), "warned");
  }

  function picture(item, number, source) {
    const image = document.createElement("img");
    image.alt = `Scan ${number} as the network sees it, and its heat map`;
    image.src = source;
    item.append(image);
  }

  /** An element of the list for a scan. */
  function place(number) {
    const item = document.createElement("li");
    const heading = document.createElement("h3");
    heading.textContent = `Scan ${number}`;
    item.append(heading);
    list.append(item);
    return item;
  }

  async function answerAll(files) {
    const readable = [];
    for (const [index, file] of files.entries()) {
      say(`${index} of ${files.length} scans answered`);
      const item = place(index + 1);
      try {
        const one = await ask(file, false);
        show(item, one);
        if (one.probability !== null) readable.push([index + 1, file, item]);
      } catch (error) {
        line(item, begun(error.message), "bad");
      }
    }
    return readable;
  }

  async function drawAll(readable) {
    for (const [place, [number, file, item]] of readable.entries()) {
      say(`All scans answered; ${place} of ${readable.length} heat maps drawn`);
      try {
        picture(item, number, (await ask(file, true)).heatmap);
      } catch (error) {
        line(item, `No heat map: ${error.message}`, "bad");
      }
    }
  }

  async function submitted(event) {
    event.preventDefault();
    const files = [...input.files];
    list.replaceChildren();
    if (files.length > MOST) {
      say(`${files.length} files at once are too many: at most ${MOST}.`, true);
      return;
    }
    send.disabled = true;
    const readable = await answerAll(files);
    if (form.elements.heatmaps.checked) await drawAll(readable);
    say(`${readable.length} of ${files.length} scans answered${readable.length < files.length ? "; the others say why not" : ""}.`);
    send.disabled = false;
  }

  form.addEventListener("submit", submitted);
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();  // a scan beside the frame would otherwise be opened by the browser
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => {
    if (send.disabled || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    form.requestSubmit();
  });
}
