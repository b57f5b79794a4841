"""The endpoints: each turns a request into a question or a deed of the sandbox's world."""
