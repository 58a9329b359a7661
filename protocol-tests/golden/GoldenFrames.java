// Writes the golden request frames, by Apache Kafka's own serializer and schemas:
//
//   java -cp 'kafka_2.13-3.9.1/libs/*' GoldenFrames.java .
//
// One file per API, one line per version: `v<version> <request header and body, hex>`. Every field of
// the version is set to something else than its default; the second element of an array has null
// where null is allowed. Values do not matter, they only have to survive a decode and an encode.

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.requests.RequestHeader;

public class GoldenFrames {
    static int count;

    public static void main(String[] args) throws Exception {
        for (ApiKeys api : ApiKeys.values()) {
            boolean ofBroker = api.id <= 51 || IntStream.of(56, 57, 58, 60, 61, 65, 66, 67, 68, 69).anyMatch(id -> id == api.id);
            if (!ofBroker) {
                continue;
            }
            ApiMessageType type = ApiMessageType.fromApiKey(api.id);
            Schema[] schemas = type.requestSchemas();
            StringBuilder lines = new StringBuilder();
            for (short version = api.oldestVersion(); version <= api.latestVersion(); version++) {
                count = 0;
                Struct body = fill(schemas[version], false);
                ByteBuffer bytes = ByteBuffer.allocate(body.sizeOf());
                body.writeTo(bytes);
                bytes.flip();
                // Through the generated class and back: tagged fields at their default fall out.
                var message = type.newRequest();
                message.read(new ByteBufferAccessor(bytes), version);
                var cache = new ObjectSerializationCache();
                var header = new RequestHeader(api, version, "golden", 1000 + api.id).data();
                short headerVersion = api.requestHeaderVersion(version);
                int headerSize = header.size(cache, headerVersion);
                ByteBuffer frame = ByteBuffer.allocate(headerSize + message.size(cache, version));
                header.write(new ByteBufferAccessor(frame), cache, headerVersion);
                message.write(new ByteBufferAccessor(frame), cache, version);
                lines.append('v').append(version).append(' ').append(HexFormat.of().formatHex(frame.array())).append('\n');
            }
            Files.writeString(Path.of(args[0], String.format("%02d-%s.txt", api.id, api.name)), lines.toString());
        }
    }

    static Struct fill(Schema schema, boolean nulls) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type, nulls));
        }
        return struct;
    }

    @SuppressWarnings("unchecked")
    static Map<Integer, Field> fieldsOf(TaggedFields tagged) {
        try {
            var fields = TaggedFields.class.getDeclaredField("fields");
            fields.setAccessible(true);
            return (Map<Integer, Field>) fields.get(tagged);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    static Object value(Type type, boolean nulls) {
        if (nulls && type.isNullable()) {
            return null;
        }
        if (type instanceof Schema schema) {
            return fill(schema, nulls);
        }
        if (type instanceof TaggedFields tagged) {
            var values = new TreeMap<Integer, Object>();
            for (var entry : fieldsOf(tagged).entrySet()) {
                Field field = entry.getValue();
                values.put(entry.getKey(), value(field.type, false));
            }
            return values;
        }
        if (type.isArray()) {
            Type element = type.arrayElementType().get();
            return new Object[] {value(element, false), value(element, true)};
        }
        count++;
        switch (type.toString()) {
            case "BOOLEAN": return true;
            case "INT8": return (byte) (count % 100 + 1);
            case "INT16": return (short) (count + 1);
            case "UINT16": return count + 1;
            case "INT32": return count + 1;
            case "UINT32": return (long) count + 1;
            case "INT64": return (1L << 40) + count;
            case "FLOAT64": return count + 0.5;
            case "UUID": return new Uuid(0x4000_0000_0000_0000L + count, count);
            case "STRING": case "COMPACT_STRING": case "NULLABLE_STRING": case "COMPACT_NULLABLE_STRING":
                return "text-" + count;
            case "BYTES": case "COMPACT_BYTES": case "NULLABLE_BYTES": case "COMPACT_NULLABLE_BYTES":
                return ByteBuffer.wrap(new byte[] {1, 2, 3, (byte) count});
            case "RECORDS": case "COMPACT_RECORDS":
                return MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(1_700_000_000_000L, "key".getBytes(), "value".getBytes()));
            default: throw new IllegalStateException(type.toString());
        }
    }
}
