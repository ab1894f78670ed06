// undo.js - what can be undone: steps with two functions each, bounded in number and bytes.

const MOST_STEPS = 300;
const MOST_BYTES = 256 << 20;

export class Undo {
  constructor(changed) {
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.steps = [];
    this.at = 0; // steps before it are done, those from it on are undone
    this.bytes = 0;
    this.changed();
  }

  /** step: {label, undo(), redo(), bytes}. It has been done already. */
  push(step) {
    for (const lost of this.steps.splice(this.at)) this.bytes -= lost.bytes || 0;
    this.steps.push(step);
    this.bytes += step.bytes || 0;
    while (this.steps.length > 1 && (this.steps.length > MOST_STEPS || this.bytes > MOST_BYTES)) {
      this.bytes -= this.steps.shift().bytes || 0;
    }
    this.at = this.steps.length;
    this.changed();
  }

  get canUndo() { return this.at > 0; }

  get canRedo() { return this.at < this.steps.length; }

  /** The label of what was undone, or null. */
  undo() {
    if (!this.canUndo) return null;
    const step = this.steps[--this.at];
    step.undo();
    this.changed();
    return step.label;
  }

  redo() {
    if (!this.canRedo) return null;
    const step = this.steps[this.at++];
    step.redo();
    this.changed();
    return step.label;
  }
}
