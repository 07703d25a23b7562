'use strict'

const { call } = require('./call.js')
const { VastLeaseError, invalidArgument } = require('./error.js')
const { exec } = require('./exec.js')
const exit = require('./exit.js')
const { native } = require('./native.js')
const { checkNames, readCallback, readSignal } = require('./options.js')
const { action, duration } = require('./settings.js')
const { openShell, readShell } = require('./shell.js')
const { openTunnel, readForwards } = require('./tunnel.js')
const { path } = require('./upkeep.js')

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')
const key = Symbol('made by acquire')

class Lease {
  #handle
  #info
  #releasing
  #gone = false
  #releaseOnDispose

  constructor(secret, handle, releaseOnDispose) {
    if (secret !== key) throw new TypeError('a Lease is made by acquire(), open() or start()')
    this.#handle = handle
    this.#releaseOnDispose = releaseOnDispose
    this.#info = Object.freeze(handle.info())
  }

  exec(command, options) {
    return exec(this.#gone ? undefined : this.#handle, command, options)
  }

  async shell(options = {}) {
    const own = ['command', 'term', 'columns', 'rows']
    const plumbing = readPlumbing('shell', options, own)
    const request = readShell(options)
    return openShell(plumbing, (cancel, events) => this.#live().shell(request, cancel, events))
  }

  async copyTo(local, remote, options) {
    return this.#copy('copyTo', { local: path('local', local), remote: path('remote', remote), toRemote: true }, options)
  }

  async copyFrom(remote, local, options) {
    return this.#copy('copyFrom', { local: path('local', local), remote: path('remote', remote), toRemote: false }, options)
  }

  async #copy(method, request, options) {
    const plumbing = readPlumbing(method, options)
    return call(plumbing, (cancel, events) => this.#live().copy(request, cancel, events))
  }

  async tunnel(forwards, options) {
    const plumbing = readPlumbing('tunnel', options)
    const ports = readForwards('lease.tunnel', forwards)
    return openTunnel(plumbing, (cancel, events) => this.#live().tunnel(ports, cancel, events))
  }

  async status(options) {
    const plumbing = readPlumbing('status', options)
    return call(plumbing, (cancel, events) => this.#live().status(cancel, events))
  }

  async touch(options) {
    const plumbing = readPlumbing('touch', options, ['idleTimeout'])
    const idle = options?.idleTimeout
    const request = idle === undefined ? {} : { idleTimeout: duration('idleTimeout', idle) }
    const touched = await call(plumbing, (cancel, events) => this.#live().touch(request, cancel, events))
    const { expiresAt, idleTimeoutSeconds, deadman } = this.#info
    this.#info = Object.freeze({
      ...this.#info,
      expiresAt: touched.expiresAt ?? expiresAt,
      idleTimeoutSeconds: touched.idleTimeoutSeconds ?? idleTimeoutSeconds,
      deadman: touched.deadman ?? deadman,
    })
    return touched
  }

  async release(options = {}) {
    const plumbing = readPlumbing('release', options, ['action'])
    const request = options.action === undefined ? {} : { action: action('action', options.action) }
    // a second call gets the first one's answer; after a failure it tries again
    this.#releasing ??= this.#release(request, plumbing).catch((error) => {
      this.#releasing = undefined
      throw error
    })
    return this.#releasing
  }

  async #release(request, plumbing) {
    const released = await call({ ...plumbing, atExit: 'finish' }, (cancel, events) =>
      this.#handle.release(request, cancel, events),
    )
    this.#gone = true
    exit.forget(this)
    this.#handle.close()
    return released
  }

  [exit.begin]() {
    if (this.#gone || this.#releasing) return undefined
    const cancel = new (native().Cancel)()
    this.#handle.release({}, cancel, null).catch(() => {})
    return cancel
  }

  async [asyncDispose]() {
    if (this.#releaseOnDispose) await this.release()
    else this.#handle.close()
  }

  close() {
    this.#handle.close()
  }

  #live() {
    if (!this.#gone) return this.#handle
    throw new VastLeaseError(`lease ${this.id} has been released`, { code: 'invalid_state', hint: 'acquire another one' })
  }

  toJSON() {
    return { ...this.#info }
  }

  [Symbol.for('nodejs.util.inspect.custom')](_depth, _options, inspect) {
    return `Lease ${inspect ? inspect(this.toJSON()) : JSON.stringify(this)}`
  }

  static {
    const names = 'id slug instance offer price gpu endpoint keep workRoot idleTimeoutSeconds expiresAt deadman'
    for (const name of names.split(' ')) {
      Object.defineProperty(this.prototype, name, { get() { return this.#info[name] }, enumerable: true, configurable: true }) // prettier-ignore
    }
  }
}

/** `signal`, `onEvent` and the named options of a method. */
function readPlumbing(method, options = {}, own = []) {
  if (typeof options !== 'object' || options === null) throw invalidArgument(`lease.${method}: options must be an object`)
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  checkNames(`lease.${method}`, given, [...own, 'signal', 'onEvent'])
  return { signal: readSignal(options.signal), onEvent: readCallback('onEvent', options.onEvent) }
}

/** The lease of a native handle. One that was there before stays there: neither the process nor disposal ends it. */
function leaseOf(handle, { releaseOnExit = false, releaseOnDispose = false } = {}) {
  const lease = new Lease(key, handle, releaseOnDispose)
  if (releaseOnExit) exit.releaseAtExit(lease)
  return lease
}

module.exports = { Lease, leaseOf }
