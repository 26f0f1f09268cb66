// Undo and redo over states that are never changed in place.

export class History {
  constructor(state) {
    this.reset(state);
  }

  reset(state) {
    this.states = [state];
    this.place = 0;
  }

  get state() {
    return this.states[this.place];
  }

  push(state) {
    this.states = [...this.states.slice(0, this.place + 1), state];
    this.place++;
  }

  /** Replace the newest state, so that undo goes back before it. */
  amend(state) {
    this.states[this.place] = state;
  }

  get canUndo() {
    return this.place > 0;
  }

  get canRedo() {
    return this.place < this.states.length - 1;
  }

  undo() {
    if (this.canUndo) this.place--;
    return this.state;
  }

  redo() {
    if (this.canRedo) this.place++;
    return this.state;
  }
}
