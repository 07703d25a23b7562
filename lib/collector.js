'use strict'

const { StringDecoder } = require('node:string_decoder')

/** Collects both output streams up to a limit, and decodes each piece for those who watch. */
class Collector {
  #maxBuffer
  #encoding
  #streams

  constructor({ encoding, maxBuffer }) {
    this.#encoding = encoding
    this.#maxBuffer = maxBuffer
    const stream = () => ({ pieces: [], size: 0, decoder: encoding === 'buffer' ? null : new StringDecoder(encoding) })
    this.#streams = { stdout: stream(), stderr: stream() }
    this.truncated = false
  }

  /** Keeps a piece and gives what to show of it; text waits for the rest of a cut character. */
  take({ stream, data }) {
    const { decoder } = this.#streams[stream]
    this.#keep(this.#streams[stream], data)
    return shown(stream, decoder ? decoder.write(data) : data)
  }

  /** What the decoders still hold at the end. */
  rest() {
    return Object.entries(this.#streams).flatMap(([name, { decoder }]) => shown(name, decoder?.end() ?? ''))
  }

  result() {
    const { stdout, stderr } = this.#streams
    return { stdout: this.#join(stdout), stderr: this.#join(stderr), truncated: this.truncated }
  }

  #keep(stream, data) {
    const room = this.#maxBuffer - stream.size
    if (data.length > room) this.truncated = true
    if (room <= 0) return
    stream.pieces.push(data.length > room ? data.subarray(0, room) : data)
    stream.size += Math.min(data.length, room)
  }

  #join({ pieces }) {
    const whole = Buffer.concat(pieces)
    if (this.#encoding === 'buffer') return whole
    // a character that the limit cut in two is left out
    return this.truncated ? new StringDecoder(this.#encoding).write(whole) : whole.toString(this.#encoding)
  }
}

function shown(stream, data) {
  return data.length === 0 ? [] : [{ stream, data }]
}

module.exports = { Collector }
