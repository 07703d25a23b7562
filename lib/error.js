'use strict'

// Two copies of this package, or a copy in another realm, must recognise each other's errors.
const brand = Symbol.for('crabbox-vast.VastLeaseError')

class VastLeaseError extends Error {
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

/** The error of an option or argument that is not acceptable. */
function invalidArgument(message, details) {
  return new VastLeaseError(message, { code: 'invalid_argument', hint: 'the typings of crabbox-vast say what each call takes', details })
}

/** The engine's error, with the stack of the caller; an error that is not the engine's becomes the cause of one. */
function fromNative(error) {
  if (error instanceof VastLeaseError) return error
  if (error?.engine !== true) {
    const message = `crabbox-vast failed inside: ${error?.message ?? String(error)}`
    const hint = 'this is a defect: please report it with the version and what was called'
    return new VastLeaseError(message, { code: 'internal', hint, cause: error })
  }
  const { message, code, hint, retryable, details, causes = [] } = error
  const cause = causes.reduceRight((inner, text) => new Error(text, inner && { cause: inner }), undefined)
  return new VastLeaseError(message, { code, hint: hint ?? undefined, retryable, details, cause })
}

module.exports = { VastLeaseError, invalidArgument, fromNative }
