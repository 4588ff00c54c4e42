// The camera's section of the page: its buttons, and what it says about how live it is.

import { Live } from "./live.js";
import { calm, complain, say } from "./notices.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const STATES = { looking: "click on something to follow it", following: "following", lost: "lost, looking for it" };

export class Camera {
  #live;
  #hooks;

  /** `load()` gives the networks; `began()`, `took(blob)` and `stopped()` tell the rest of the page. */
  constructor(hooks) {
    this.#hooks = hooks;
    const layers = { picture: $("live-picture"), masks: $("live-masks"), overlay: $("live-overlay") };
    this.#live = new Live($("live-stage"), new View($("live-stage"), layers), (facts) => this.#show(facts));
    $("live-let-go").addEventListener("click", () => this.letGo());
    $("live-take").addEventListener("click", () => this.#take());
    $("live-flip").addEventListener("click", () => this.#begin(() => this.#live.flip(hooks.load)));
    $("live-stop").addEventListener("click", () => this.#stop());
  }

  get isOn() {
    return this.#live.isOn;
  }

  start() {
    if (this.isOn) return;
    this.#hooks.began();
    this.#begin(() => this.#live.start(this.#hooks.load));
  }

  letGo() {
    this.#live.letGo();
  }

  /** Switch the camera off, if it is on. */
  close() {
    this.#live.stop();
    $("live").hidden = true;
  }

  /** Another model was chosen. */
  forget() {
    if (this.isOn) this.#stop();
    this.#live.forget();
  }

  async #begin(work) {
    calm();
    $("live").hidden = false;
    $("live-rate").textContent = "Starting the camera and loading the model …";
    for (const id of ["live-let-go", "live-take"]) $(id).disabled = true;
    say("The camera's frames stay in this browser.");
    try {
      await work();
      const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
      $("live-flip").hidden = cameras.length < 2;
      $("live-stage").focus({ preventScroll: true });
    } catch (error) {
      this.#fail(error);
    }
  }

  #show({ error, state, rate, latency }) {
    if (error) {
      this.#fail(error);
      return;
    }
    $("live-take").disabled = false;
    $("live-let-go").disabled = state === "looking";
    $("live-rate").textContent = `${rate.toFixed(1)} frames/s · ${Math.round(latency)} ms · ${STATES[state]}`;
  }

  async #take() {
    try {
      const blob = await this.#live.picture();
      this.close();
      this.#hooks.took(blob);
    } catch (error) {
      this.#fail(error);
    }
  }

  #stop() {
    this.close();
    this.#hooks.stopped();
  }

  #fail(error) {
    this.#stop();
    complain(error);
  }
}
