'use strict'

const { VastLeaseError } = require('./error.js')
const { Handoff } = require('./handoff.js')

/** A running command: the promise of its result, and an async iterable of its output while it runs. */
class RemoteCommand {
  #result
  #handoff
  #begun = false

  constructor(start) {
    this.#result = start((chunk) => this.#deliver(chunk))
  }

  then(onFulfilled, onRejected) {
    return this.#result.then(onFulfilled, onRejected)
  }

  catch(onRejected) {
    return this.#result.catch(onRejected)
  }

  finally(onFinally) {
    return this.#result.finally(onFinally)
  }

  [Symbol.asyncIterator]() {
    if (this.#handoff || this.#begun) {
      throw new VastLeaseError('the output can be iterated once, from the moment the command starts', {
        code: 'invalid_state',
        hint: 'write `for await (const chunk of lease.exec(…))`, or await the result',
      })
    }
    const handoff = new Handoff()
    this.#handoff = handoff
    // the iteration throws the failure; who only iterates must not get it a second time as an unhandled rejection
    this.#result.then(
      () => handoff.finish(),
      (error) => handoff.fail(error),
    )
    return handoff
  }

  get [Symbol.toStringTag]() {
    return 'RemoteCommand'
  }

  async #deliver(chunk) {
    this.#begun = true
    await this.#handoff?.give(chunk)
  }
}

module.exports = { RemoteCommand }
