'use strict'

/** Hands values from one producer to one async iteration; the producer waits until each is taken. */
class Handoff {
  #offers = []
  #takers = []
  #end

  /** Resolves when the value was taken, or at once when nobody wants it any more. */
  give(value) {
    if (this.#end) return Promise.resolve()
    const taker = this.#takers.shift()
    if (taker) {
      taker.resolve({ value, done: false })
      return Promise.resolve()
    }
    return new Promise((taken) => this.#offers.push({ value, taken }))
  }

  finish() {
    this.#close({ error: undefined })
  }

  fail(error) {
    this.#close({ error, failed: true })
  }

  next() {
    const offer = this.#offers.shift()
    if (offer) {
      offer.taken()
      return Promise.resolve({ value: offer.value, done: false })
    }
    if (!this.#end) return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }))
    const { failed, error } = this.#end
    this.#end = {}
    return failed ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true })
  }

  /** `break` ends the iteration, not the command. */
  return() {
    for (const { taken } of this.#offers.splice(0)) taken()
    this.#close({})
    this.#end = {}
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator]() {
    return this
  }

  #close(end) {
    if (this.#end) return
    this.#end = end
    const [first, ...others] = this.#takers.splice(0)
    if (end.failed && first) {
      first.reject(end.error)
      this.#end = {}
    } else {
      first?.resolve({ value: undefined, done: true })
    }
    for (const taker of others) taker.resolve({ value: undefined, done: true })
  }
}

module.exports = { Handoff }
