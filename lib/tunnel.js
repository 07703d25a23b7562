'use strict'

const { call } = require('./call.js')
const { native } = require('./native.js')
const { boolean, readId, readOptions } = require('./options.js')
const { words } = require('./settings.js')
const { invalidArgument } = require('./error.js')

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')
const key = Symbol('made by tunnel')

/** Local ports that lead to an instance, until it is closed. */
class Tunnel {
  #cancel
  #facts

  constructor(secret, facts, cancel, closed) {
    if (secret !== key) throw new TypeError('a Tunnel is made by tunnel()')
    this.#facts = facts
    this.#cancel = cancel
    this.closed = closed
    // who never looks at `closed` must not be ended by it
    closed.catch(() => {})
  }

  get lease() {
    return this.#facts.lease
  }

  get slug() {
    return this.#facts.slug
  }

  get forwards() {
    return this.#facts.forwards
  }

  async close() {
    this.#cancel()
    await this.closed
  }

  async [asyncDispose]() {
    this.#cancel()
    await this.closed.catch(() => {})
  }

  toJSON() {
    return { ...this.#facts }
  }
}

async function tunnel(id, forwards, options) {
  const { context, own, ...plumbing } = readOptions('tunnel', options, { reclaim: boolean })
  const request = { context, id: readId('tunnel', id), reclaim: own.reclaim ?? false, forwards: readForwards('tunnel', forwards) }
  return openTunnel(plumbing, (cancel, events) => native().tunnel(request, cancel, events))
}

/** `open` gives the native tunnel. The signal closes an open tunnel, and that is no failure. */
async function openTunnel(plumbing, open) {
  const handle = await call(plumbing, open)
  const closing = new AbortController()
  const close = () => closing.abort()
  const { signal, onEvent } = plumbing
  signal?.addEventListener('abort', close, { once: true })
  if (signal?.aborted) close()
  const { lease, slug, forwards } = handle.facts()
  const facts = Object.freeze({ lease, slug, forwards: forwards.map(({ local, host, port }) => Object.freeze({ address: `127.0.0.1:${local}`, local, host, port })) }) // prettier-ignore
  const served = call({ onEvent }, (cancel, events) => {
    if (closing.signal.aborted) cancel.cancel()
    closing.signal.addEventListener('abort', () => cancel.cancel(), { once: true })
    return handle.serve(cancel, events)
  })
  const closed = served.then(() => undefined).finally(() => signal?.removeEventListener('abort', close))
  return new Tunnel(key, facts, close, closed)
}

/** Ports, each a number or text such as `8080:80`. */
function readForwards(name, forwards) {
  const list = Array.isArray(forwards) ? forwards : [forwards]
  if (list.length === 0) throw invalidArgument(`${name} needs a port to forward`)
  return words('forwards', list.map((port) => (Number.isSafeInteger(port) && port >= 0 ? String(port) : port)))
}

module.exports = { Tunnel, tunnel, openTunnel, readForwards }
