// How a picture comes in: dropped, pasted, chosen from a file, or one of the examples.

const EXAMPLES = [
  { file: "coffee.jpg", name: "Coffee" },
  { file: "chelsea.jpg", name: "Chelsea the cat" },
  { file: "astronaut.jpg", name: "Astronaut" },
];

/** `open(file, name)` gets a Blob. */
export function listenForPictures({ drop, input, examples, buttons }, open, complain) {
  const take = (file) => {
    if (!file) return;
    if (file.type && !file.type.startsWith("image/")) {
      complain(new Error(`Expected a picture, got ${file.name || "something else"}; choose a JPEG, PNG or WebP.`));
      return;
    }
    open(file, file.name || "pasted.png");
  };

  for (const button of buttons) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });

  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("dragging");
  });
  window.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("dragging"); });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("dragging");
    const { files } = event.dataTransfer;
    if (files.length) take(files[0]);
    else complain(new Error("Only a file can be dropped here; save the picture first, then drop the file."));
  });

  window.addEventListener("paste", (event) => {
    const item = [...event.clipboardData.items].find(({ kind, type }) => kind === "file" && type.startsWith("image/"));
    if (!item) return;
    event.preventDefault();
    take(item.getAsFile());
  });

  for (const { file, name } of EXAMPLES) examples.append(example(file, name, open, complain));
}

function example(file, name, open, complain) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const picture = document.createElement("img");
  picture.src = `examples/${file}`;
  picture.alt = "";
  const text = document.createElement("span");
  text.textContent = name;
  button.append(picture, text);
  button.addEventListener("click", async () => {
    try {
      const response = await fetch(picture.src);
      if (!response.ok) throw new Error("This example cannot be fetched; choose a picture of your own.");
      open(await response.blob(), file);
    } catch (error) {
      complain(error);
    }
  });
  row.append(button);
  return row;
}
