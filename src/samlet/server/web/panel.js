// The list of objects beside the picture: choose, rename, colour, hide, remove.

const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

export class Panel {
  #list;
  #template;
  #objects;
  #rows = new Map();

  constructor(list, template, objects) {
    this.#list = list;
    this.#template = template;
    this.#objects = objects;
  }

  /** Bring the list up to date; rows stay, so that the focus in them does. */
  render(pixels) {
    const { list, active } = this.#objects;
    for (const [id, row] of this.#rows) {
      if (!list.some((object) => object.id === id)) {
        row.remove();
        this.#rows.delete(id);
      }
    }
    list.forEach((object, index) => {
      const row = this.#rows.get(object.id) ?? this.#makeRow(object);
      if (this.#list.children[index] !== row) this.#list.insertBefore(row, this.#list.children[index] ?? null);
      this.#update(row, object, object === active, pixels);
    });
  }

  #makeRow({ id }) {
    const row = this.#template.content.firstElementChild.cloneNode(true);
    const part = (name) => row.querySelector(`[data-part=${name}]`);
    const objects = this.#objects;
    const current = () => objects.list.find((object) => object.id === id);
    row.addEventListener("click", (event) => {
      if (!event.target.closest("button, input") && objects.active?.id !== id) objects.select(id);
    });
    part("choose").addEventListener("click", () => objects.select(id));
    part("name").addEventListener("focus", () => { if (objects.active?.id !== id) objects.select(id); });
    part("name").addEventListener("change", (event) => {
      objects.change(id, { name: event.target.value.trim() || current().name });
    });
    part("name").addEventListener("keydown", (event) => { if (event.key === "Enter") event.target.blur(); });
    part("colour").addEventListener("change", (event) => objects.change(id, { colour: event.target.value }));
    part("show").addEventListener("click", () => objects.change(id, { visible: !current().visible }));
    part("remove").addEventListener("click", () => objects.remove(id));
    this.#rows.set(id, row);
    return row;
  }

  #update(row, { name, colour, visible, answer }, isActive, pixels) {
    const part = (which) => row.querySelector(`[data-part=${which}]`);
    row.classList.toggle("active", isActive);
    row.classList.toggle("hidden-object", !visible);
    part("choose").setAttribute("aria-pressed", String(isActive));
    part("choose").setAttribute("aria-label", `Choose ${name}`);
    if (document.activeElement !== part("name")) part("name").value = name;
    part("colour").value = colour;
    part("colour").setAttribute("aria-label", `Colour of ${name}`);
    part("show").setAttribute("aria-pressed", String(visible));
    part("show").setAttribute("aria-label", `Show ${name}`);
    part("show").querySelector("use").setAttribute("href", `icons.svg#${visible ? "eye" : "eye-off"}`);
    part("remove").setAttribute("aria-label", `Remove ${name}`);
    part("facts").title = "Share of the picture, and the network's own rating of the mask";
    const shown = answer?.shown;
    const waits = answer !== null && !answer.isReady;
    part("facts").textContent = waits && !shown ? "…" : facts(shown, pixels);
    row.setAttribute("aria-busy", String(waits));
  }
}

function facts(answer, pixels) {
  if (!answer) return "no prompt yet";
  if (!answer.area) return "nothing found";
  const score = answer.score === null ? "" : ` · score ${answer.score.toFixed(2)}`;
  return `${percent.format(answer.area / pixels)}${score}`;
}
