'use strict'

const { Readable, Writable } = require('node:stream')
const { call } = require('./call.js')
const { fromNative } = require('./error.js')
const { readCommand } = require('./exec-request.js')
const { text, wrong } = require('./settings.js')

const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')
const key = Symbol('made by lease.shell')

/** A terminal on an instance. */
class Shell {
  #remote
  #close

  constructor(secret, remote, close, exit) {
    if (secret !== key) throw new TypeError('a Shell is made by lease.shell()')
    this.#remote = remote
    this.#close = close
    this.exit = exit
    // who never looks at `exit` must not be ended by it
    exit.catch(() => {})
    this.stdin = new Writable({
      decodeStrings: true,
      write: (data, _encoding, done) => void remote.write(data).then(() => done(), done),
      final: (done) => {
        remote.end()
        done()
      },
    })
    this.output = outputOf(remote)
  }

  resize({ columns, rows } = {}) {
    const size = [side('columns', columns), side('rows', rows)]
    try {
      this.#remote.resize(...size)
    } catch (error) {
      throw fromNative(error)
    }
  }

  async close() {
    this.#close()
    await this.exit.catch(() => {})
  }

  [Symbol.asyncIterator]() {
    return this.output[Symbol.asyncIterator]()
  }

  async [asyncDispose]() {
    await this.close()
  }
}

/** Read at the reader's pace. A reader that leaves lets the rest go by, so that the shell can end. */
function outputOf(remote) {
  const drain = async () => {
    while ((await remote.next()) !== null);
  }
  return new Readable({
    read() {
      remote.next().then(
        (piece) => this.push(piece === null ? null : piece.data),
        (error) => this.destroy(fromNative(error)),
      )
    },
    destroy(error, done) {
      drain().catch(() => {})
      done(error)
    },
  })
}

/** The terminal that the options ask for. */
function readShell({ command, term = 'xterm-256color', columns = 80, rows = 24 }) {
  const script = command === undefined ? {} : readCommand('lease.shell', command)
  return { ...script, term: text('term', term), columns: side('columns', columns), rows: side('rows', rows) }
}

function side(name, value) {
  if (!Number.isSafeInteger(value) || value < 1 || value > 65_535) throw wrong(name, 'a whole number from 1 to 65535', value)
  return value
}

/** Opens a terminal; `start` starts it on the lease's session. */
function openShell(plumbing, start) {
  if (plumbing.signal?.aborted) throw plumbing.signal.reason
  let remote
  let cancelled
  // runs up to the start at once
  const exit = call(plumbing, (cancel, events) => {
    cancelled = () => cancel.cancel()
    remote = start(cancel, events)
    return remote.done()
  })
  if (!remote) return exit.then(() => undefined)
  return new Shell(key, remote, cancelled, exit)
}

module.exports = { Shell, openShell, readShell }
