// The same names where no addon can be loaded: Cloudflare Workers, browsers. Errors work, calls reject.
// Nothing is imported, so that every bundler and runtime can take this file as it is.

export const version = '0.1.0'

const brand = Symbol.for('crabbox-vast.VastLeaseError')

export class VastLeaseError extends Error {
  constructor(message, { code = 'internal', hint, retryable = false, details = {}, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.hint = hint
    this.retryable = retryable
    this.details = details
    Object.defineProperty(this, brand, { value: true })
  }

  static [Symbol.hasInstance](value) {
    if (this !== VastLeaseError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return typeof value === 'object' && value !== null && value[brand] === true
  }

  toJSON() {
    const { name, code, message, hint, retryable, details } = this
    return { name, code, message, hint, retryable, details }
  }
}

Object.defineProperty(VastLeaseError.prototype, 'name', {
  value: 'VastLeaseError',
  writable: true,
  configurable: true,
})

function unsupported(name) {
  return new VastLeaseError(`crabbox-vast: ${name} needs Node; this runtime cannot load its addon`, {
    code: 'unsupported_runtime',
    hint: 'lease from Node (a test runner\'s global setup, a script, a CI step) and pass the lease id on',
  })
}

const rejecting = (name) => ({ [name]: async () => { throw unsupported(name) } })[name] // prettier-ignore
const throwing = (name) => ({ [name]: () => { throw unsupported(name) } })[name] // prettier-ignore

export const acquire = rejecting('acquire')
export const open = rejecting('open')
export const start = rejecting('start')
export const run = rejecting('run')
export const release = rejecting('release')
export const list = rejecting('list')
export const status = rejecting('status')
export const touch = rejecting('touch')
export const doctor = rejecting('doctor')
export const searchOffers = rejecting('searchOffers')
export const copy = rejecting('copy')
export const tunnel = rejecting('tunnel')
export const sshCommand = rejecting('sshCommand')
export const cleanup = rejecting('cleanup')
export const listClaims = rejecting('listClaims')
export const forget = rejecting('forget')
export const adopt = rejecting('adopt')
export const liveSmoke = rejecting('liveSmoke')
export const showConfig = rejecting('showConfig')
export const providers = rejecting('providers')
export const installSignalHandlers = throwing('installSignalHandlers')
export const binaryPath = throwing('binaryPath')

export class Lease {
  constructor() {
    throw unsupported('Lease')
  }
}

export class Tunnel {
  constructor() {
    throw unsupported('Tunnel')
  }
}

export class Shell {
  constructor() {
    throw unsupported('Shell')
  }
}
